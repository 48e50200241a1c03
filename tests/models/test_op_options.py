"""Option bytes: the Python twin against the golden files that the C++ twin reads too."""

import struct
import zlib
from pathlib import Path

import pytest

from shadowattn.models.op_options import SIZE, OpOptions

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
CASES = {"op_options_fused.bin": OpOptions(3, 30, 9, 3, 64, 0.125)}


@pytest.mark.parametrize(("name", "options"), CASES.items())
def test_golden(name: str, options: OpOptions) -> None:
    data = (GOLDEN / name).read_bytes()
    assert options.pack() == data
    assert OpOptions.unpack(data) == options


def test_every_truncation_and_every_flipped_byte_is_refused() -> None:
    good = OpOptions(0, 1, 4, 2, 8, 0.5).pack()
    for length in range(SIZE):
        with pytest.raises(ValueError, match="40 bytes"):
            OpOptions.unpack(good[:length])
    for at in range(SIZE):
        with pytest.raises(ValueError, match="op options"):
            OpOptions.unpack(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])


def test_future_version_is_named() -> None:
    good = OpOptions(0, 1, 4, 2, 8, 0.5).pack()
    with pytest.raises(ValueError, match="version 2 is not 1"):
        OpOptions.unpack(good[:4] + b"\x02\x00" + good[6:])


@pytest.mark.parametrize(("flags", "reserved"), [(0, 0), (2, 0), (4, 1024), (6, 0), (9, 0), (1, 1)])
def test_flags_of_other_forms_are_unknown(flags: int, reserved: int) -> None:
    """2 and 4 marked the ops of a form that is no more, which kept a length at byte 32."""
    body = OpOptions(0, 1, 4, 2, 8, 0.5).pack()[:36]
    body = body[:6] + struct.pack("<H", flags) + body[8:32] + struct.pack("<i", reserved)
    message = f"wanted flags 1 and a reserved 0, got {flags} and {reserved}; convert the model again"
    with pytest.raises(ValueError, match=message):
        OpOptions.unpack(body + struct.pack("<I", zlib.crc32(body)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 5}, "multiple"),
        ({"head_dim": 513}, "head_dim"),
        ({"layer": 2}, "layer 2"),
        ({"layer": -1}, "layer -1"),
    ],
)
def test_impossible_options(change: dict, message: str) -> None:
    good = {"layer": 0, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8}
    with pytest.raises(ValueError, match=message):
        OpOptions(**(good | change), softmax_scale=0.5)
