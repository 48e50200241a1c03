"""`eval --tasks=estimate`: recall on hand-made scores, bucketed scores head by head, and a whole run."""

from pathlib import Path

import numpy as np
import pytest

from shadowattn.models.bundle import read_manifest
from shadowattn.models.grid_fit import fit_grid
from shadowattn.models.oracle.grid import Projections, grid_scores, quantize_static
from shadowattn.runtime import Session
from shadowattn.runtime.evaluate import schemes
from shadowattn.runtime.evaluate.evaluation import evaluate
from shadowattn.runtime.evaluate.options import EvalOptions


def test_recall_counts_what_is_found() -> None:
    truth = np.array([[[9.0, 1, 8, 2, 7, 3, 6, 4]]])
    positions = np.array([7])
    assert schemes.recall(truth, truth, positions, 0.5) == pytest.approx([1.0])
    assert schemes.recall(-truth, truth, positions, 0.5) == pytest.approx([0.0])
    half = np.array([[[9.0, 9, 8, 8, 0, 0, 0, 0]]])  # finds 0 and 2 of 0, 2, 4, 6
    assert schemes.recall(half, truth, positions, 0.5) == pytest.approx([0.5])


def test_recall_fills_equal_scores_newest_first_and_sees_no_future() -> None:
    truth = np.array([[[0.0, 0, 1, 2, 99]]])
    equal = np.zeros((1, 1, 5), np.int8)
    assert schemes.recall(equal, truth, np.array([3]), 0.5) == pytest.approx([1.0])  # of 0..3 the newest two: 2 and 3


def test_bucketed_scores_are_those_of_each_heads_graph() -> None:
    rng = np.random.default_rng(4)
    q, k = rng.normal(size=(6, 4, 16)), rng.normal(size=(26, 2, 16))
    q[:, 1] *= 9  # another bucket than its neighbours'
    layer = Projections.sampled(q.astype(np.float32), k.astype(np.float32), rows=6)
    grid = fit_grid([layer])
    scores = schemes.bucketed(layer, grid)
    for head, bucket in enumerate(layer.buckets(grid).tolist()):
        i, j = grid.pair(bucket)
        q_i8 = quantize_static(layer.q[:, head, None], grid.q_scales[i])[:, 0]
        k_i8 = quantize_static(layer.k[:, head // 2, None], grid.k_scales[j])[:, 0]
        np.testing.assert_array_equal(scores[head], grid_scores(q_i8, k_i8, grid.multiplier(bucket)))
    assert len(set(layer.buckets(grid).tolist())) > 1
    found = schemes.recall(scores, schemes.float_scores(layer), layer.positions, 0.3)
    assert found.min() > 0.8


def test_the_whole_task(tiny: Path) -> None:
    report = evaluate(tiny, EvalOptions(tasks=("estimate",), window=100, max_tokens=100, session={"num_threads": 1}))
    spec = read_manifest(tiny).model
    assert len(report["rows"]) == 10  # five schemes, two keep ratios
    for row in report["rows"]:
        assert np.shape(row["recall"]) == (spec.num_layers, spec.num_heads)
        assert 0.5 < row["recall_min"] <= row["recall_mean"] <= 1.0


def test_every_position_is_shown_once(tiny: Path) -> None:
    seen: dict[int, int] = {}

    def watch(layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> None:
        assert len(q) == len(k) == len(v)
        seen[layer] = seen.get(layer, 0) + len(k)

    with Session.open(tiny, num_threads=1, executor="pipelined") as session:
        with session.pipelined.watch(watch):
            session.prefill(list(range(37)))
        session.decode(1)
    assert seen == dict.fromkeys(range(read_manifest(tiny).model.num_layers), 37)
