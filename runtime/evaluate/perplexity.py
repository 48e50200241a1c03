"""Perplexity of texts, and KL divergence against dense or the float model at every position, of all variants in
lockstep.

Window by window and slice by slice: what they are compared with is computed once for all, and of each variant at most
one slice of logits (score_rows x vocab) exists at a time.
"""

import contextlib
import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from shadowattn.runtime.evaluate.distributions import Reference
from shadowattn.runtime.evaluate.model_reference import FloatModel, slice_of
from shadowattn.runtime.evaluate.options import DENSE, MODEL, Variant
from shadowattn.runtime.evaluate.sessions import Advance, Opener, variant_columns
from shadowattn.runtime.evaluate.texts import EvalText, Window
from shadowattn.runtime.session.scoring import ScoreSlice


@dataclasses.dataclass
class _Scores:
    """What one variant gave for one text so far; arrays of one slice each."""

    logprobs: list[np.ndarray] = dataclasses.field(default_factory=list)
    kl: list[np.ndarray] = dataclasses.field(default_factory=list)
    same_top: list[np.ndarray] = dataclasses.field(default_factory=list)
    seconds: float = 0.0


def perplexity_rows(
    opener: Opener,
    variants: Sequence[Variant],
    texts: Sequence[tuple[EvalText, Sequence[Window]]],
    window: int,
    advance: Advance,
    model: FloatModel | None = None,
) -> list[dict[str, Any]]:
    """A row per text and variant, the base first in each text. `advance` counts tokens, once per variant.

    The base is dense, or `model`, which has read the texts' windows in order.
    """
    base = DENSE if model is None else MODEL
    read = itertools.count()
    with contextlib.ExitStack() as stack:
        sessions = {variant: stack.enter_context(opener.open(variant)) for variant in variants}
        rows = []
        for text, windows in texts:
            for session in sessions.values():
                session.reset_stats()
            scores = {variant: _Scores() for variant in dict.fromkeys((base, *sessions))}
            for number, place in enumerate(windows, 1):
                token_ids = text.evaluated[place.start : place.end]
                streams = {variant: session.score_slices(token_ids) for variant, session in sessions.items()}
                of_model = None if model is None else functools.partial(slice_of, model, next(read), token_ids)
                note = f"{text.name}, window {number} of {len(windows)}"
                while count := _score_slice(streams, of_model, scores, place):
                    advance(count, note)
                advance(len(streams), note)  # the first token of a window is not predicted
            columns = {"task": "perplexity", "text": text.name, "window": window}
            for variant, own in scores.items():
                stats = sessions[variant].stats() if variant in sessions else None
                found = variant_columns(variant, stats) | _summary(own, scores[base])
                rows.append(columns | found | {"base": variant == base})
        return rows


def _score_slice(
    streams: dict[Variant, Iterator[ScoreSlice]],
    of_model: Callable[[ScoreSlice], ScoreSlice] | None,
    scores: dict[Variant, _Scores],
    window: Window,
) -> int:
    """The next slice of every variant; how many tokens that were, 0 at the end of the window."""
    parts: dict[Variant, ScoreSlice] = {}
    for variant, stream in streams.items():
        start = time.perf_counter()
        part = next(stream, None)
        scores[variant].seconds += time.perf_counter() - start
        if part is None:
            return 0
        if not parts and of_model is not None:
            parts[MODEL] = of_model(part)
        parts[variant] = part
    reference = None
    for variant, part in parts.items():
        skipped = min(max(window.first_row - part.start, 0), len(part.logprobs))
        logits = part.logits[skipped:]
        kl = np.zeros(len(logits)) if reference is None else reference.kl(logits)
        reference = reference or Reference(logits)  # of the base, which comes first
        scores[variant].logprobs.append(part.logprobs[skipped:])
        scores[variant].kl.append(kl)
        scores[variant].same_top.append(reference.same_top(logits))
    return sum(len(parts[variant].logprobs) for variant in streams)


def _summary(own: _Scores, base: _Scores) -> dict[str, Any]:
    """Losses are means in float64; the standard error is that of the paired difference, position by position."""
    logprobs = np.concatenate(own.logprobs).astype(np.float64)
    lost = np.concatenate(base.logprobs).astype(np.float64) - logprobs
    kl = np.concatenate(own.kl)
    perplexity = math.exp(-logprobs.mean())
    change = math.exp(lost.mean())
    return {
        "tokens": len(logprobs),
        "perplexity": perplexity,
        "change_percent": 100 * (change - 1),
        "loss_change_stderr": 100 * change * float(lost.std()) / math.sqrt(len(lost)),
        "kl_mean": float(kl.mean()),
        "kl_p99": float(np.percentile(kl, 99)),
        "same_top": float(np.concatenate(own.same_top).mean()),
        "seconds": own.seconds,
    }


def worst_texts(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line per variant over all texts: means, and the text with the largest change."""
    lines: list[dict[str, Any]] = []
    for key in dict.fromkeys((row["mode"], row["keep_ratio"]) for row in rows):
        own = [row for row in rows if (row["mode"], row["keep_ratio"]) == key]
        worst = max(own, key=lambda row: row["change_percent"])
        achieved = [row["mean_keep_ratio"] for row in own]
        lines.append(
            {
                "mode": key[0],
                "keep_ratio": key[1],
                "base": worst["base"],
                "mean_keep_ratio": None if None in achieved else float(np.mean(achieved)),
                "change_percent": float(np.mean([row["change_percent"] for row in own])),
                "worst_change_percent": worst["change_percent"],
                "worst_text": worst["text"],
                "kl_mean": float(np.mean([row["kl_mean"] for row in own])),
                "texts": len(own),
            }
        )
    return lines
