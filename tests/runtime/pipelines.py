"""Runs of the pipelined executor for its tests: a text's results to the bit, and a profile to plan with."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shadowattn.models.bundle import MANIFEST, MODEL, read_manifest
from shadowattn.models.plan import FILE_NAME as PLAN
from shadowattn.models.plan import Plan
from shadowattn.models.scale_grid import ScaleGrid
from shadowattn.runtime import Session
from shadowattn.runtime.pipeline.options import PipelineOptions
from shadowattn.runtime.pipeline.profile import LatencyProfile, LaunchTime

SETTINGS = {"keep_ratio": 0.3, "min_k": 4, "sinks": 1, "latest": 2}  # few enough that the estimate decides


class Outcome(NamedTuple):
    """Every row of a text: log-probabilities [n-1], and the logits of three tokens decoded after it [3,vocab]."""

    logprobs: np.ndarray
    decoded: np.ndarray

    def same_bits(self, other: "Outcome") -> bool:
        return np.array_equal(self.logprobs, other.logprobs) and np.array_equal(self.decoded, other.decoded)


def open_pipelined(bundle: Path, options: PipelineOptions, num_threads: int = 2, **settings: object) -> Session:
    changed = SETTINGS | settings
    return Session.open(bundle, executor="pipelined", pipeline=options, num_threads=num_threads, **changed)  # type: ignore[arg-type]


def outcome(session: Session, tokens: Sequence[int]) -> Outcome:
    """Prefills all tokens but the last, whatever the session held, and decodes it and two more."""
    logprobs = session.score(tokens)
    return Outcome(logprobs, np.stack([session.decode(token) for token in (tokens[-1], 5, 11)]))


def run(
    bundle: Path, tokens: Sequence[int], options: PipelineOptions, num_threads: int = 2, **settings: object
) -> Outcome:
    with open_pipelined(bundle, options, num_threads, **settings) as session:
        return outcome(session, tokens)


def one_after_the_other(bundle: Path, tokens: Sequence[int], scales: str, mode: str = "shadow") -> Outcome:
    """What every other way must equal: no overlap, one thread, a launch a head."""
    return run(bundle, tokens, PipelineOptions(scales=scales, planner="off", heads=(1,)), 1, mode=mode)


def goes_on(session: Session, bundle: Path, text: list[int]) -> None:
    """From where it is to the 70th token, and anew, to the bit as one after the other."""
    wanted = one_after_the_other(bundle, text[:70], "rank")
    assert session.length % 16 == 0
    assert session._engine.shadow.cache_length(session._cached.handle) == session.length
    session.prefill(text[session.length : 69])
    assert np.array_equal(session.decode(text[69]), wanted.decoded[0])
    assert outcome(session, text[:70]).same_bits(wanted)


def change_grid(bundle: Path, change: Callable[[ScaleGrid], ScaleGrid | None]) -> None:
    """Writes the plan with another grid, or none, and the manifest that fits it."""
    plan, manifest = Plan.from_bytes((bundle / PLAN).read_bytes()), read_manifest(bundle)
    assert plan.grid is not None
    content = dataclasses.replace(plan, grid=change(plan.grid)).to_bytes()
    (bundle / PLAN).write_bytes(content)
    files = dict(manifest.files) | {PLAN: dataclasses.replace(manifest.files[PLAN], bytes=len(content))}
    (bundle / MANIFEST).write_text(dataclasses.replace(manifest, files=files).to_json(), "utf-8")


def scaled(grid: ScaleGrid, factor: float) -> ScaleGrid:
    """All scales times the factor: with the same multipliers, and so the same graphs."""
    return ScaleGrid(grid.q_scales * factor, grid.k_scales * factor, grid.score_scales * factor**2)


def invented_profile(bundle: Path, heads: Sequence[int] = (1, 2, 4, 6), chunk: int = 16) -> LatencyProfile:
    """More heads in a launch cost less than the same heads apart: 1.2, 1.4, ... ms, and 0.8 ms a head to attend."""
    manifest = read_manifest(bundle)
    launch = (LaunchTime(64, 64, few, 1e-3 + 2e-4 * few, 8e-4 * few, 0.0) for few in heads)
    own = ("host INT8", manifest.name, manifest.files[MODEL].sha256, 2, "shadow")
    return LatencyProfile("nowhere", "a test's invention", *own, chunk, tuple(launch))
