"""What the delegate can observe of the rows that a session computes: names and shapes of its tables (docs/op_spec.md,
observers), and what a person reads out of them."""

import dataclasses
from typing import NamedTuple

import numpy as np

from shadowattn.models.observations import BINS, LADDER, OCTAVES
from shadowattn.runtime.executor.engine import Engine

HISTOGRAM, ERRORS, HEADS, RANGES = "histogram", "errors", "heads", "ranges"
FLAGS = {HISTOGRAM: 1, ERRORS: 2, HEADS: 4, RANGES: 8}


class Table(NamedTuple):
    """kind: what must be observed for it; shape: after layer and, if per_head, head."""

    kind: str
    per_head: bool
    shape: tuple[int, ...]


TABLES = {
    "histogram": Table(HISTOGRAM, True, (OCTAVES, BINS)),
    "rows": Table(HISTOGRAM, True, (OCTAVES,)),
    "errors": Table(ERRORS, True, (OCTAVES, len(LADDER))),
    "norms": Table(ERRORS, True, (OCTAVES,)),
    "error_rows": Table(ERRORS, True, (OCTAVES,)),
    "heads": Table(HEADS, True, (4,)),
    "ranges": Table(RANGES, False, (5,)),
}


@dataclasses.dataclass(frozen=True)
class HeadStats:
    """float64 [L,H] each, over the rows that selected; 1 where none did, as a row that attends to all misses nothing.

    kept: mean share of positions read. mass: softmax mass of those in float32, mean over rows. recall: share of the k
    positions with the largest float32 scores that are among the k read.
    """

    kept: np.ndarray
    mass: np.ndarray
    recall: np.ndarray


def _head_stats(heads: np.ndarray) -> HeadStats:
    """Table `heads` [L,H,4] -> means."""
    rows = heads[..., 0]
    means = np.where(rows[..., None] > 0, heads[..., 1:] / np.maximum(rows, 1)[..., None], 1.0)
    return HeadStats(kept=means[..., 0], mass=means[..., 1], recall=means[..., 2])


class SessionObserver:
    """Watches the rows of one cache. Costs time and memory where it is told to, and changes no result."""

    def __init__(self, engine: Engine, cache: int) -> None:
        """Use Session.observer."""
        self._engine = engine
        self._cache = cache

    def observe(self, *kinds: str) -> None:
        """From now on watches some of FLAGS, from empty tables; none ends it. Raises ValueError."""
        if unknown := sorted(set(kinds) - set(FLAGS)):
            raise ValueError(f"observe: wanted some of {', '.join(FLAGS)}, got {', '.join(unknown)}")
        with self._engine.lock:
            self._engine.shadow.observe(self._cache, sum(FLAGS[kind] for kind in set(kinds)))

    def table(self, name: str) -> np.ndarray:
        """One of TABLES, float64 [layers, heads, ...]; zeros for what was not observed since observe() or the session's
        reset_stats(). Raises ValueError."""
        if name not in TABLES:
            raise ValueError(f"observed: wanted one of {', '.join(TABLES)}, got {name!r}")
        table, model = TABLES[name], self._engine.manifest.model
        heads = (model.num_heads,) if table.per_head else ()
        with self._engine.lock:
            return self._engine.shadow.observed(self._cache, name, (model.num_layers, *heads, *table.shape))

    def head_stats(self) -> HeadStats:
        """Of kind `heads`."""
        return _head_stats(self.table(HEADS))
