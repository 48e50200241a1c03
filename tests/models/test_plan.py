"""plan.bin: round trip, the golden file that the C++ reader reads too, every kind of damage, and the thresholds."""

import dataclasses
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from shadowattn.models.plan import UNFITTED_THRESHOLDS, Plan, ThresholdTable
from shadowattn.models.scale_grid import ScaleGrid

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "plan.bin"
HEADER = 48


def golden_plan() -> Plan:
    """2 layers, 4 query heads, 2 KV heads, head_dim 3; every value says where it belongs."""
    centre = np.arange(12, dtype=np.float32).reshape(2, 2, 3) / 8
    by_head = np.arange(8, dtype=np.float32).reshape(2, 4)
    table = ThresholdTable(
        keep_ratios=np.array([0.125, 0.5], np.float32),
        lengths=np.array([64, 256, 1024], np.float32),
        values=np.array([[1 / 16, 1 / 64, 1 / 256], [1 / 32, 1 / 256, 1 / 2048]], np.float32),
    )
    return Plan(
        num_heads=4,
        centre=centre,
        scale=np.array([[0.5, 0.25], [0.125, 2.0]], np.float32),
        k_variance=centre + 100,
        estimate_multiplier=0.0078125,
        auto_threshold=1 / 128,
        thresholds=table,
        threshold_factors=1 + by_head / 8,
        paper_budgets=by_head / 4,
        static_ranges=np.arange(10, dtype=np.float32).reshape(2, 5) * 3,
        grid=ScaleGrid(
            q_scales=np.array([0.5, 0.75], np.float32),
            k_scales=np.array([0.25, 1, 4], np.float32),
            score_scales=1 + np.arange(6, dtype=np.float32).reshape(2, 3),
        ),
    )


def test_golden() -> None:
    wanted = golden_plan()
    assert wanted.to_bytes() == GOLDEN.read_bytes()
    plan = Plan.from_bytes(GOLDEN.read_bytes())
    for name in ("centre", "scale", "k_variance", "threshold_factors", "paper_budgets", "static_ranges"):
        np.testing.assert_array_equal(getattr(plan, name), getattr(wanted, name), name)
    for name in ("keep_ratios", "lengths", "values"):
        np.testing.assert_array_equal(getattr(plan.thresholds, name), getattr(wanted.thresholds, name), name)
    for name in ("q_scales", "k_scales", "score_scales"):
        np.testing.assert_array_equal(getattr(plan.grid, name), getattr(wanted.grid, name), name)
    assert (plan.estimate_multiplier, plan.auto_threshold) == (0.0078125, 1 / 128)
    assert (plan.num_heads, plan.num_layers, plan.num_kv_heads, plan.head_dim) == (4, 2, 2, 3)


def test_a_plan_without_a_grid() -> None:
    plan = dataclasses.replace(golden_plan(), grid=None)
    assert Plan.from_bytes(plan.to_bytes()).grid is None


@pytest.mark.parametrize("sizes", [(0, 3), (2, 0), (17, 3), (2, 17), (1 << 31, 1 << 31)], ids=str)
def test_impossible_grids_are_refused(sizes: tuple[int, int]) -> None:
    body = bytearray(GOLDEN.read_bytes()[:-4])
    struct.pack_into("<II", body, HEADER - 8, *sizes)
    with pytest.raises(ValueError, match="impossible shape"):
        Plan.from_bytes(bytes(body) + struct.pack("<I", zlib.crc32(body)))


def test_every_truncation_is_refused() -> None:
    data = GOLDEN.read_bytes()
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"plan\.bin"):
            Plan.from_bytes(data[:length])


def test_damage_and_future_versions_are_refused() -> None:
    data = GOLDEN.read_bytes()
    with pytest.raises(ValueError, match="checksum"):
        Plan.from_bytes(data[:90] + b"\x7f" + data[91:])
    with pytest.raises(ValueError, match="version 9"):
        Plan.from_bytes(data[:4] + struct.pack("<I", 9) + data[8:])
    with pytest.raises(ValueError, match="bytes"):
        Plan.from_bytes(data[:8] + struct.pack("<i", 1 << 30) + data[12:])


@pytest.mark.parametrize("value", [float("nan"), 0.0, -1.0])
def test_impossible_scales_are_refused(value: float) -> None:
    body = bytearray(GOLDEN.read_bytes()[:-4])
    before = (2 + 3 + 2 * 3) + (2 + 3 + 2 * 3)
    struct.pack_into("<f", body, HEADER + 4 * (before + 2 * 3), value)
    with pytest.raises(ValueError, match=r"scale.*calibrate again"):
        Plan.from_bytes(bytes(body) + struct.pack("<I", zlib.crc32(body)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold_factors": np.zeros((2, 4), np.float32)}, "factors must be positive"),
        ({"threshold_factors": np.full((2, 4), np.inf, np.float32)}, "infinity"),
        ({"threshold_factors": np.ones((2, 3), np.float32)}, "threshold_factors is"),
        ({"paper_budgets": np.full((2, 4), -1, np.float32)}, "budgets not negative"),
        ({"static_ranges": np.full((2, 5), -1, np.float32)}, "ranges must not be negative"),
        ({"static_ranges": np.ones((2, 4), np.float32)}, "static_ranges is"),
        ({"auto_threshold": 0.0}, "auto_threshold must be in"),
        ({"auto_threshold": 1.0}, "auto_threshold must be in"),
        ({"auto_threshold": float("nan")}, "auto_threshold must be in"),
        ({"estimate_multiplier": -1.0}, "estimate_multiplier must be positive"),
    ],
    ids=str,
)
def test_impossible_plans_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(golden_plan(), **changes)


@pytest.mark.parametrize(
    ("keep_ratios", "lengths", "values", "message"),
    [
        ([0.1, 0.1], [64], [[0.1], [0.1]], "keep_ratios .* ascend"),
        ([0.0, 0.1], [64], [[0.1], [0.1]], "keep_ratios .* positive"),
        ([0.1], [256, 64], [[0.1, 0.1]], "lengths .* ascend"),
        ([0.1], [64], [[0.0]], r"thresholds must be in \(0, 1\)"),
        ([0.1], [64], [[1.0]], r"thresholds must be in \(0, 1\)"),
        ([0.1], [64], [[float("nan")]], r"thresholds must be in \(0, 1\)"),
        ([0.1], [64], [[0.1, 0.1]], "does not fit"),
        ([], [], np.zeros((0, 0)), "does not fit"),
        (np.arange(1, 258), [64], np.full((257, 1), 0.1), "at most 256"),
    ],
    ids=str,
)
def test_impossible_tables_are_refused(keep_ratios: list, lengths: list, values: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ThresholdTable(*(np.array(array, np.float32) for array in (keep_ratios, lengths, values)))


@pytest.mark.parametrize(
    ("keep_ratio", "length", "inverse"),  # the golden plan's table; delegate/tests/thresholds_test.cc knows the same
    [
        (0.125, 64, 16),
        (0.125, 1, 16),
        (0.01, 64, 16),
        (0.125, 160, 40),
        (0.125, 640, 160),
        (0.125, 1024, 256),
        (0.125, 2048, 512),
        (0.5, 64, 32),
        (1.0, 64, 32),
        (0.25, 64, 16 + 16 / 3),
        (0.3125, 160, 92),
        (0.3125, 1024 * 1024, 1152 * 1024),
    ],
)
def test_thresholds_between_and_beyond(keep_ratio: float, length: int, inverse: float) -> None:
    assert golden_plan().thresholds.at(keep_ratio, length) == pytest.approx(1 / inverse, rel=1e-12)


def test_unfitted_thresholds_keep_about_a_share() -> None:
    for length in (64, 1000, 100_000):
        assert UNFITTED_THRESHOLDS.at(0.05, length) == pytest.approx(1 / (4 * 0.05 * length), rel=0.1)
