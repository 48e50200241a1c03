"""Option bytes: the Python twin against the golden files that the C++ twin reads too."""

from pathlib import Path

import pytest

from shadowattn.models.op_options import SIZE, Form, OpOptions

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
CASES = {
    "op_options_fused.bin": OpOptions(Form.FUSED, 3, 30, 9, 3, 64, 0.125),
    "op_options_attend.bin": OpOptions(Form.SCORES | Form.LAYER_INPUT, -1, 2, 5, 1, 40, 0.15811388194561005),
    "op_options_append.bin": OpOptions(Form.LAYER_INPUT, -1, 2, 5, 1, 40, 0.15811388194561005, 1024),
}


@pytest.mark.parametrize(("name", "options"), CASES.items())
def test_golden(name: str, options: OpOptions) -> None:
    data = (GOLDEN / name).read_bytes()
    assert options.pack() == data
    assert OpOptions.unpack(data) == options


def test_every_truncation_and_every_flipped_byte_is_refused() -> None:
    good = OpOptions(Form.FUSED, 0, 1, 4, 2, 8, 0.5).pack()
    for length in range(SIZE):
        with pytest.raises(ValueError, match="40 bytes"):
            OpOptions.unpack(good[:length])
    for at in range(SIZE):
        with pytest.raises(ValueError, match="op options"):
            OpOptions.unpack(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])


def test_future_version_is_named() -> None:
    good = OpOptions(Form.FUSED, 0, 1, 4, 2, 8, 0.5).pack()
    with pytest.raises(ValueError, match="version 2 is not 1"):
        OpOptions.unpack(good[:4] + b"\x02\x00" + good[6:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 5}, "multiple"),
        ({"head_dim": 513}, "head_dim"),
        ({"layer": 2}, "layer 2"),
        ({"form": Form.SCORES | Form.LAYER_INPUT}, "layer 0"),
    ],
)
def test_impossible_options(change: dict, message: str) -> None:
    good = {"form": Form.FUSED, "layer": 0, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8}
    with pytest.raises(ValueError, match=message):
        OpOptions(**(good | change), softmax_scale=0.5)
