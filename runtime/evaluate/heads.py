"""Per layer and head: what share of the positions is read, how much softmax mass they hold, how many of the true top-k
were found. The delegate measures; here it is asked and put into rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from shadowattn.runtime.evaluate.options import Variant
from shadowattn.runtime.evaluate.sessions import Advance, Opener, variant_columns
from shadowattn.runtime.evaluate.texts import EvalText, Window
from shadowattn.runtime.session.observing import HeadStats

MEASURES = ("kept", "mass", "recall")


def head_rows(
    opener: Opener,
    variants: Sequence[Variant],
    texts: Sequence[tuple[EvalText, Sequence[Window]]],
    advance: Advance,
) -> list[dict[str, Any]]:
    """A row per text and variant. `advance` counts windows, once per variant. Raises ValueError."""
    rows = []
    for variant, session in opener.each(tuple(variants)):
        for text, windows in texts:
            session.reset_stats()
            session.observe_heads()
            for number, window in enumerate(windows, 1):
                session.reset()
                session.prefill(text.evaluated[window.start : window.end])
                advance(1, f"{variant.name}, {text.name}, window {number} of {len(windows)}")
            columns = {"task": "heads", "text": text.name} | variant_columns(variant, session.stats())
            rows.append(columns | summarize(session.head_stats()))
    return rows


def summarize(stats: HeadStats) -> dict[str, Any]:
    """Mean, least and where (layer, head) of each measure, and the whole maps."""
    row: dict[str, Any] = {}
    for name in MEASURES:
        values = np.asarray(getattr(stats, name), np.float64)
        layer, head = np.unravel_index(int(values.argmin()), values.shape)
        row[f"{name}_mean"] = float(values.mean())
        row[f"{name}_min"] = float(values.min())
        row[f"{name}_argmin"] = [int(layer), int(head)]
        row[name] = values.tolist()
    return row
