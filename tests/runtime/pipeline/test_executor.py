"""The pipelined executor's results do not depend on planner, grouping, threads or timing: the same bits."""

import functools
import itertools
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from claiming import ClaimingLibrary
from pipelines import Outcome, one_after_the_other, open_pipelined, outcome, run

from shadowattn.runtime.pipeline.estimates import EstimateRunner
from shadowattn.runtime.pipeline.options import SCALES, NpuChoice, PipelineOptions
from shadowattn.runtime.pipeline.schedule import PLANNERS
from shadowattn.runtime.pipeline.stages import Stages

_LONG = 150  # nine chunks of 16, the last of them padded, and across a bucket's border
Wanted = Callable[..., Outcome]


@pytest.fixture(scope="module")
def wanted(wide: Path, text: list[int]) -> Wanted:
    """(scales, mode, tokens) -> what comes of them one after the other."""

    @functools.cache
    def find(scales: str = "rank", mode: str = "shadow", length: int = _LONG) -> Outcome:
        return one_after_the_other(wide, text[:length], scales, mode)

    return find


@pytest.fixture
def shaken(monkeypatch: pytest.MonkeyPatch) -> random.Random:
    """Both workers are late around a third of their steps, by up to about 2 ms."""
    seed = random.SystemRandom().randrange(2**31)
    print("seed", seed)
    dice = random.Random(seed)

    def shake(function: Callable[..., None]) -> Callable[..., None]:
        def shaking(*arguments: object) -> None:
            for step in (lambda: None, lambda: function(*arguments), lambda: None):
                step()
                if dice.random() < 0.3:
                    for _ in range(dice.randrange(50_000)):
                        pass

        return shaking

    for owner, method in ((EstimateRunner, "invoke"), (Stages, "attend")):
        monkeypatch.setattr(owner, method, shake(getattr(owner, method)))
    return dice


def test_the_oracle_depends_on_scales_and_mode(wanted: Wanted) -> None:
    """Otherwise equality would say nothing."""
    found = [wanted("rank"), wanted("nearest"), wanted("one"), wanted("rank", "shadow_paper")]
    for index, one in enumerate(found):
        assert not any(one.same_bits(other) for other in found[:index])


@pytest.mark.parametrize("mode", ["shadow", "shadow_paper"])
@pytest.mark.parametrize("scales", SCALES)
def test_scales(wide: Path, text: list[int], wanted: Wanted, scales: str, mode: str) -> None:
    """With a grid, what may share a launch differs from layer to layer and chunk to chunk."""
    with open_pipelined(wide, PipelineOptions(scales=scales), mode=mode) as session:
        assert outcome(session, text[:_LONG]).same_bits(wanted(scales, mode))
        record = session.pipelined.record
        chunks = len(record.chunks)
        assert (record.buckets.sum(-1) == chunks).all()
        assert record.buckets.shape == (2, 6, 10)
        if scales in ("rank", "one"):
            assert (record.buckets[..., 0 if scales == "rank" else 1 + 4] == chunks).all()
        else:
            assert not record.buckets[..., 0].any()
            assert (record.buckets.sum((0, 1)) > 0).sum() > 1


_PLANNERS = itertools.product((*PLANNERS, "off"), ("shadow", "shadow_paper"))
_LAUNCHES = itertools.product(((1,), (2,), (4, 2), (6,), (1, 2, 4, 6), None), (1, 2, 3))
_LENGTHS = (17, 21, 32, 63, 64, 65, 66, 100, 200)  # whole and padded last chunks, shorter chunks, borders of buckets


@pytest.mark.parametrize(
    ("options", "settings", "length"),
    [
        *(({"planner": planner}, {"mode": mode}, _LONG) for planner, mode in _PLANNERS),
        *(({"heads": heads}, {"num_threads": num_threads}, _LONG) for heads, num_threads in _LAUNCHES),
        *(({"scales": "nearest"}, {}, length) for length in _LENGTHS),
    ],
    ids=str,
)
def test_planners_launch_sizes_threads_and_lengths(
    wide: Path, text: list[int], wanted: Wanted, options: dict[str, Any], settings: dict[str, Any], length: int
) -> None:
    own = {"scales": "rank"} | options
    with open_pipelined(wide, PipelineOptions(**own), **settings) as session:
        assert outcome(session, text[:length]).same_bits(wanted(own["scales"], settings.get("mode", "shadow"), length))
        assert session.pipelined.overlaps == (own.get("planner") != "off" and settings.get("num_threads") != 1)
        if own.get("heads") == (6,):
            assert {chunk.launches for chunk in session.pipelined.record.chunks} == {2}  # layers


@pytest.mark.parametrize("mode", ["shadow", "shadow_paper"])
def test_whatever_the_timing(wide: Path, text: list[int], wanted: Wanted, shaken: random.Random, mode: str) -> None:
    for _ in range(8):
        scales, heads = shaken.choice(SCALES), shaken.choice([(1,), (1, 2), (1, 4), None])
        options = PipelineOptions(scales=scales, planner=shaken.choice([*PLANNERS]), heads=heads)
        found = run(wide, text[:70], options, shaken.choice([2, 3]), mode=mode)
        assert found.same_bits(wanted(scales, mode, 70)), options


def test_what_a_graph_held_before_does_not_matter(wide: Path, text: list[int], wanted: Wanted) -> None:
    """Keys beyond the cache's end stay in a graph's input from a longer text, or from anything."""
    with open_pipelined(wide, PipelineOptions(scales="rank")) as session:
        session.prefill(text)
        for garbage in (-128, 127):
            for runner in session.pipelined.estimator._runners.values():
                runner.q_i8[...] = runner.k_i8[...] = runner.scores_i8[...] = garbage
            assert outcome(session, text[:21]).same_bits(wanted("rank", "shadow", 21))


def test_through_a_delegate(wide: Path, text: list[int], wanted: Wanted, claiming: ClaimingLibrary) -> None:
    """The test delegate computes as the host does; beside it one thread is enough to overlap."""
    npu = NpuChoice.parse(claiming.npu("delay_ms=1"), require_npu=True)
    with open_pipelined(wide, PipelineOptions(npu, scales="log"), num_threads=1) as session:
        assert session.pipelined.overlaps
        assert outcome(session, text[:70]).same_bits(wanted("log", "shadow", 70))


# --- sharing ---


def test_two_sessions_in_two_threads(wide: Path, text: list[int], wanted: Wanted, shaken: random.Random) -> None:
    """They use the same estimate graphs, and alternate chunk by chunk."""
    options = [PipelineOptions(scales="rank"), PipelineOptions(scales="nearest", heads=(1, 2))]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda own: run(wide, text[:70], own), options))
    for own, one in zip(options, found, strict=True):
        assert one.same_bits(wanted(own.scales, "shadow", 70))


def test_ways_to_run_alternate_in_one_session(wide: Path, text: list[int], wanted: Wanted) -> None:
    with open_pipelined(wide, PipelineOptions(planner="off")) as session:
        ways = [session.make_pipeline(PipelineOptions(planner=name)) for name in ("best", "greedy")]
        for start in range(0, 149, 16):
            session.use_pipeline(ways[start // 16 % 2])
            session.prefill(text[start : min(start + 16, 149)])
        assert np.array_equal(session.decode(text[149]), wanted().decoded[0])
        assert [len(way.record.chunks) for way in ways] == [5, 5]
