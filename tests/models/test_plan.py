"""plan.bin: round trip, the golden file that the C++ reader reads too, and every kind of damage."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from shadowattn.models.plan import Plan

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "plan.bin"


def golden_plan() -> Plan:
    """2 layers, 4 query heads, 2 KV heads, head_dim 3; every value says where it belongs."""
    centre = np.arange(12, dtype=np.float32).reshape(2, 2, 3) / 8
    scale = np.array([[0.5, 0.25], [0.125, 2.0]], np.float32)
    return Plan(4, centre, scale, centre + 100, 0.0078125)


def test_golden() -> None:
    assert golden_plan().to_bytes() == GOLDEN.read_bytes()
    plan = Plan.from_bytes(GOLDEN.read_bytes())
    np.testing.assert_array_equal(plan.centre, golden_plan().centre)
    np.testing.assert_array_equal(plan.scale, golden_plan().scale)
    np.testing.assert_array_equal(plan.k_variance, golden_plan().k_variance)
    assert (plan.num_heads, plan.num_layers, plan.num_kv_heads, plan.head_dim) == (4, 2, 2, 3)


def test_every_truncation_is_refused() -> None:
    data = GOLDEN.read_bytes()
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"plan\.bin"):
            Plan.from_bytes(data[:length])


def test_damage_and_future_versions_are_refused() -> None:
    data = GOLDEN.read_bytes()
    with pytest.raises(ValueError, match="checksum"):
        Plan.from_bytes(data[:60] + b"\x7f" + data[61:])
    with pytest.raises(ValueError, match="version 9"):
        Plan.from_bytes(data[:4] + struct.pack("<I", 9) + data[8:])
    with pytest.raises(ValueError, match="bytes"):
        Plan.from_bytes(data[:8] + struct.pack("<i", 1 << 30) + data[12:])


@pytest.mark.parametrize("value", [float("nan"), 0.0, -1.0])
def test_impossible_scales_are_refused(value: float) -> None:
    body = bytearray(GOLDEN.read_bytes()[:-4])
    struct.pack_into("<f", body, 32 + 2 * 3 * 4, value)
    with pytest.raises(ValueError, match="calibrate again"):
        Plan.from_bytes(bytes(body) + struct.pack("<I", zlib.crc32(body)))
