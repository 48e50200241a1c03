"""`eval --tasks=estimate`: recall on hand-made scores, the bucket grid on numbers made by hand, and a whole run."""

from pathlib import Path

import numpy as np
import pytest
from cli_runner import needs_delegate

from shadowattn.models.bundle import read_manifest
from shadowattn.runtime import Session
from shadowattn.runtime.evaluate import schemes
from shadowattn.runtime.evaluate.evaluation import evaluate
from shadowattn.runtime.evaluate.options import EvalOptions
from shadowattn.runtime.evaluate.schemes import BucketGrid, Projections


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


def test_a_head_takes_the_nearest_bucket() -> None:
    rng = np.random.default_rng(3)
    shape = (40, 3, 8)
    # Three heads at a quarter, one and eight times the same numbers: clamping costs more than a coarse step.
    sizes = np.array([0.25, 1.0, 8.0])[None, :, None]
    q, k = (rng.uniform(-1, 1, shape) * sizes for _ in range(2))
    layer = Projections(q.astype(np.float32), np.arange(40), k.astype(np.float32))
    for multipliers, fewest in (((0.5, 1.0, 2.0), 2), ((1.0,), 1)):
        grid = BucketGrid([layer], multipliers)
        buckets = schemes._nearest(layer.q, grid._q_scales)
        assert len(set(buckets.tolist())) == fewest
        for head, bucket in enumerate(buckets):
            errors = [
                float(((np.clip(np.rint(q[:, head] / s), -127, 127) * s - q[:, head]) ** 2).mean())
                for s in grid._q_scales
            ]
            assert bucket == int(np.argmin(errors))


def test_the_grid_scores_what_it_was_fitted_on_without_saturation() -> None:
    rng = np.random.default_rng(4)
    layer = Projections(
        rng.normal(size=(6, 4, 16)).astype(np.float32),
        np.arange(20, 26),
        rng.normal(size=(26, 2, 16)).astype(np.float32),
    )
    scores = BucketGrid([layer]).scores(layer, 0)
    assert scores.dtype == np.int8
    assert np.abs(scores.astype(int)).max() == 127  # the largest of a bucket is its range
    found = schemes.recall(scores, schemes.float_scores(layer), layer.positions, 0.3)
    assert found.min() > 0.8


@needs_delegate
def test_the_whole_task(tiny: Path) -> None:
    report = evaluate(tiny, EvalOptions(tasks=("estimate",), window=100, max_tokens=100, session={"num_threads": 1}))
    spec = read_manifest(tiny).model
    assert len(report["rows"]) == 8  # four schemes, two keep ratios
    for row in report["rows"]:
        assert np.shape(row["recall"]) == (spec.num_layers, spec.num_heads)
        assert 0.5 < row["recall_min"] <= row["recall_mean"] <= 1.0


@needs_delegate
def test_watching_needs_the_split_form(tiny: Path) -> None:
    with Session.open(tiny, num_threads=1) as session, pytest.raises(ValueError, match="pipelined"):
        session.watch_projections(lambda *_: None).__enter__()


@needs_delegate
def test_every_position_is_shown_once(tiny: Path) -> None:
    seen: dict[int, int] = {}

    def watch(layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> None:
        assert len(q) == len(k) == len(v)
        seen[layer] = seen.get(layer, 0) + len(k)

    with Session.open(tiny, num_threads=1, executor="pipelined") as session:
        with session.watch_projections(watch):
            session.prefill(list(range(37)))
        session.decode(1)
    assert seen == dict.fromkeys(range(read_manifest(tiny).model.num_layers), 37)
