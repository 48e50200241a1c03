"""The bucket grid: numbering, multipliers, the nearest bucket against the formula, and what is refused."""

import itertools

import numpy as np
import pytest

from shadowattn.models.scale_grid import NEAREST, ScaleGrid

GRID = ScaleGrid(
    q_scales=np.array([0.5, 1, 2], np.float32),
    k_scales=np.array([0.25, 1], np.float32),
    score_scales=np.array([[1, 2], [4, 8], [16, 32]], np.float32),
)


def test_buckets_are_numbered_row_by_row_from_1() -> None:
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert [GRID.pair(bucket) for bucket in GRID.buckets] == pairs
    assert GRID.count == 6
    assert dict(GRID.multipliers()) == {1: 1 / 8, 2: 1 / 4, 3: 1 / 16, 4: 1 / 8, 5: 1 / 32, 6: 1 / 16}


@pytest.mark.parametrize("bucket", [0, -1, 7])
def test_a_number_that_is_no_bucket(bucket: int) -> None:
    with pytest.raises(ValueError, match=r"not one of the grid's 1\.\.6"):
        GRID.multiplier(bucket)


def _slow_nearest(grid: ScaleGrid, q: float, k: float, by: str) -> int:
    """The formula over all pairs; the first of equally near ones has the smaller scales."""

    def distance(i: int, j: int) -> float:
        pairs = ((q, float(grid.q_scales[i])), (k, float(grid.k_scales[j])))
        if by == "mse":
            return sum((measured - scale) ** 2 for measured, scale in pairs)
        return sum(np.log(measured / scale) ** 2 for measured, scale in pairs)

    pairs = itertools.product(range(grid.q_scales.size), range(grid.k_scales.size))
    best = min(pairs, key=lambda pair: distance(*pair))
    return 1 + best[0] * grid.k_scales.size + best[1]


@pytest.mark.parametrize("by", NEAREST)
def test_the_nearest_bucket_by_the_formula(by: str) -> None:
    seed = int(np.random.default_rng().integers(1 << 31))
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    for _ in range(20):
        q_scales, k_scales = (np.unique(np.float32(np.exp(rng.normal(0, 2, rng.integers(1, 17))))) for _ in "qk")
        grid = ScaleGrid(q_scales, k_scales, np.ones((q_scales.size, k_scales.size), np.float32))
        measured = np.float32(np.exp(rng.normal(0, 3, (2, 50))))
        wanted = [_slow_nearest(grid, float(q), float(k), by) for q, k in measured.T]
        assert grid.nearest(*measured, by=by).tolist() == wanted


def test_ties_go_to_the_smaller_scale_and_the_next_number_does_not() -> None:
    above = np.nextafter(np.float32(0.75), np.float32(1))
    assert GRID.nearest([0.75, above, 1.5], 1).tolist() == [2, 4, 4]
    above = np.nextafter(np.float32(0.5), np.float32(1))
    assert GRID.nearest(2, [0.5, above], by="log").tolist() == [5, 6]


@pytest.mark.parametrize("by", NEAREST)
def test_beyond_the_grid_the_outermost(by: str) -> None:
    assert GRID.nearest([0, 1e-30, 3e38], [3e38, 0, 1e30], by=by).tolist() == [2, 1, 6]
    assert GRID.outside([0.5, 0.49, 2, 2.01, 1, 1], [1, 1, 0.25, 1, 1.01, 0.2]).tolist() == [
        False,
        True,
        False,
        True,
        True,
        True,
    ]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_measured_scales_that_are_none(bad: float) -> None:
    for given in ((bad, 1.0), (1.0, bad)):
        with pytest.raises(ValueError, match="measured scale"):
            GRID.nearest(*given)
        with pytest.raises(ValueError, match="measured scale"):
            GRID.outside(*given)


def test_an_unknown_nearness() -> None:
    with pytest.raises(ValueError, match="wanted mse or log"):
        GRID.nearest(1, 1, by="max")


@pytest.mark.parametrize(
    ("q_scales", "k_scales", "score_scales", "message"),
    [
        ([], [1], np.zeros((0, 1)), "q_scales must be 1 to 16"),
        ([1, 1], [1], [[1], [1]], "q_scales must be 1 to 16 ascending"),
        ([1], [2, 1], [[1, 1]], "k_scales must be 1 to 16 ascending"),
        ([0, 1], [1], [[1], [1]], "q_scales must be positive"),
        ([1], [np.inf], [[1]], "k_scales must be positive"),
        ([1], [1e-42], [[1]], "k_scales must be positive"),
        ([1], [1], [[np.nan]], "score_scales must be positive"),
        ([1], [1], [1], r"score_scales must be \[1,1\]"),
        ([1, 2], [1], [[1, 1]], r"score_scales must be \[2,1\]"),
        (np.arange(1, 18), [1], np.ones((17, 1)), "1 to 16"),
        ([[1]], [1], [[1]], "q_scales must be 1 to 16"),
    ],
    ids=str,
)
def test_impossible_grids_are_refused(q_scales: list, k_scales: list, score_scales: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScaleGrid(*(np.array(array, np.float32) for array in (q_scales, k_scales, score_scales)))
