"""Perplexity of texts, and KL divergence against dense at every position, of all variants in lockstep.

Window by window and slice by slice: dense is computed once for all, and of each variant at most one slice of logits
(score_rows x vocab) exists at a time.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from shadowattn.runtime.evaluate.distributions import Reference
from shadowattn.runtime.evaluate.options import DENSE, Variant
from shadowattn.runtime.evaluate.sessions import Advance, Opener, variant_columns
from shadowattn.runtime.evaluate.texts import EvalText, Window
from shadowattn.runtime.session.scoring import ScoreSlice
from shadowattn.runtime.session.session import Session


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
) -> list[dict[str, Any]]:
    """A row per text and variant; dense comes first in each text. `advance` counts tokens, once per variant."""
    with contextlib.ExitStack() as stack:
        sessions = {variant: stack.enter_context(opener.open(variant)) for variant in variants}
        rows = []
        for text, windows in texts:
            for session in sessions.values():
                session.reset_stats()
            scores = _score_text(sessions, text, windows, advance)
            columns = {"task": "perplexity", "text": text.name, "window": window}
            for variant, session in sessions.items():
                found = variant_columns(variant, session.stats()) | _summary(scores[variant], scores[DENSE])
                rows.append(columns | found)
        return rows


def _score_text(
    sessions: dict[Variant, Session], text: EvalText, windows: Sequence[Window], advance: Advance
) -> dict[Variant, _Scores]:
    scores = {variant: _Scores() for variant in sessions}
    for number, window in enumerate(windows, 1):
        token_ids = text.evaluated[window.start : window.end]
        streams = {variant: session.score_slices(token_ids) for variant, session in sessions.items()}
        note = f"{text.name}, window {number} of {len(windows)}"
        while count := _score_slice(streams, scores, window):
            advance(count, note)
        advance(len(streams), note)  # the first token of a window is not predicted
    return scores


def _score_slice(streams: dict[Variant, Iterator[ScoreSlice]], scores: dict[Variant, _Scores], window: Window) -> int:
    """The next slice of every variant; how many tokens that were, 0 at the end of the window."""
    reference = None
    count = 0
    for variant, stream in streams.items():
        start = time.perf_counter()
        part = next(stream, None)
        scores[variant].seconds += time.perf_counter() - start
        if part is None:
            return 0
        skipped = min(max(window.first_row - part.start, 0), len(part.logprobs))
        logits = part.logits[skipped:]
        if reference is None:  # dense
            reference = Reference(logits)
        scores[variant].logprobs.append(part.logprobs[skipped:])
        scores[variant].kl.append(np.zeros(len(logits)) if variant == DENSE else reference.kl(logits))
        scores[variant].same_top.append(reference.same_top(logits))
        count += len(part.logprobs)
    return count


def _summary(own: _Scores, dense: _Scores) -> dict[str, Any]:
    """Losses are means in float64; the standard error is that of the paired difference, position by position."""
    logprobs = np.concatenate(own.logprobs).astype(np.float64)
    lost = np.concatenate(dense.logprobs).astype(np.float64) - logprobs
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
    lines = []
    for key in dict.fromkeys((row["mode"], row["keep_ratio"]) for row in rows):
        own = [row for row in rows if (row["mode"], row["keep_ratio"]) == key]
        worst = max(own, key=lambda row: row["change_percent"])
        lines.append(
            {"mode": key[0], "keep_ratio": key[1]}
            | {name: float(np.mean([row[name] for row in own])) for name in ("mean_keep_ratio", "change_percent")}
            | {"worst_change_percent": worst["change_percent"], "worst_text": worst["text"]}
            | {"kl_mean": float(np.mean([row["kl_mean"] for row in own])), "texts": len(own)}
        )
    return lines
