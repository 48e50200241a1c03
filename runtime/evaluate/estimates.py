"""Which static INT8 estimate finds the positions that matter: recall of the float32 top-k per layer and head, for the
rank-invariant graph and the paper's bucket grid, on q and k that the model computes for a text."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from shadowattn.models.grid_fit import fit_grid
from shadowattn.models.oracle.grid import Projections
from shadowattn.models.plan import Plan
from shadowattn.runtime.evaluate import schemes
from shadowattn.runtime.evaluate.sessions import Advance
from shadowattn.runtime.evaluate.texts import EvalText
from shadowattn.runtime.session.session import Session

KEEP_RATIOS = (0.2, 0.05)
ROWS = 32  # of the last chunk, spread evenly

_Scores = Callable[[Projections, int], np.ndarray]


def estimate_rows(
    session: Session, plan: Plan, calibration: EvalText, texts: Sequence[EvalText], window: int, advance: Advance
) -> list[dict[str, Any]]:
    """A row per text, scheme and keep_ratio. session: of the pipelined executor, mode dense. The grids are fitted on
    `window` tokens of `calibration`. `advance` counts windows. Raises ValueError."""
    fitted = record(session, calibration.evaluated[:window])
    advance(1, f"estimate, {calibration.name}")
    compared = _schemes(plan, fitted)
    rows = []
    for text in texts:
        layers = record(session, text.evaluated[:window])
        for name, scores in compared.items():
            for keep_ratio, found in zip(KEEP_RATIOS, _recalls(layers, scores), strict=True):
                rows.append(_row(text, calibration, name, keep_ratio, found))
        advance(1, f"estimate, {text.name}")
    return rows


def record(session: Session, tokens: Sequence[int]) -> list[Projections]:
    """Rows of the last chunk, and the keys of all positions, layer by layer."""
    keys: dict[int, list[np.ndarray]] = {}
    queries: dict[int, np.ndarray] = {}

    def note(layer: int, q: np.ndarray, k: np.ndarray, _v: np.ndarray) -> None:
        queries[layer] = q.copy()
        keys.setdefault(layer, []).append(k.copy())

    session.reset()
    with session.pipelined.watch(note):
        session.prefill(tokens)
    found = []
    for layer, q in sorted(queries.items()):
        found.append(Projections.sampled(q, np.concatenate(keys[layer]), ROWS))
    return found


def _schemes(plan: Plan, fitted: Sequence[Projections]) -> dict[str, _Scores]:
    nine, one = fit_grid(fitted), fit_grid(fitted, (1.0,))
    return {
        "dynamic (fused)": lambda layer, index: schemes.dynamic(layer, plan, index),
        "rank-invariant, one graph": lambda layer, index: schemes.rank_invariant(layer, plan, index),
        "nine scale buckets": lambda layer, _: schemes.bucketed(layer, nine),
        "one scale bucket": lambda layer, _: schemes.bucketed(layer, one),
        "no calibration": lambda layer, _: schemes.uncalibrated(layer),
    }


def _recalls(layers: Sequence[Projections], scores: _Scores) -> Iterator[np.ndarray]:
    """[L,H] per keep_ratio."""
    pairs = [(scores(layer, index), schemes.float_scores(layer)) for index, layer in enumerate(layers)]
    for keep_ratio in KEEP_RATIOS:
        found = [
            schemes.recall(ranked, truth, layer.positions, keep_ratio)
            for layer, (ranked, truth) in zip(layers, pairs, strict=True)
        ]
        yield np.stack(found)


def _row(text: EvalText, calibration: EvalText, scheme: str, keep_ratio: float, found: np.ndarray) -> dict[str, Any]:
    layer, head = np.unravel_index(int(found.argmin()), found.shape)
    return {
        "task": "estimate",
        "text": text.name,
        "calibration": calibration.name,
        "scheme": scheme,
        "keep_ratio": keep_ratio,
        "recall_mean": float(found.mean()),
        "recall_min": float(found.min()),
        "recall_argmin": [int(layer), int(head)],
        "recall": found.tolist(),
    }
