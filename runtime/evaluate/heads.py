"""Per layer and head: what share of the positions is read, how much softmax mass they hold, how many of the true top-k
were found. The delegate measures; here it is asked and put into rows."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from shadowattn.runtime.evaluate.options import Variant
from shadowattn.runtime.evaluate.sessions import Advance, Opener, variant_columns
from shadowattn.runtime.evaluate.texts import EvalText, Window
from shadowattn.runtime.session import Session

MEASURES = ("kept", "mass", "recall")


class HeadStats(Protocol):
    """float64 [L,H] each. kept: mean share of positions read; mass: softmax mass of those, mean over rows; recall:
    share of the float32 top-k that is among them."""

    kept: np.ndarray
    mass: np.ndarray
    recall: np.ndarray


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
            rows.append(columns | summarize(read_head_stats(session)))
    return rows


def read_head_stats(session: Session) -> HeadStats:
    """Since reset_stats(). Raises ValueError if the delegate cannot say."""
    read: Callable[[], HeadStats] | None = getattr(session, "head_stats", None)
    if read is None:
        raise ValueError(
            "the delegate does not report head statistics; leave `heads` out of --tasks, or install a version of "
            "shadowattn that does"
        )
    return read()


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
