"""The op in LiteRT: every refusal reaches Python as one sentence."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, load_delegate
from one_op import OneOp, Sizes, one_op_model, plan_for
from resident_growth import growth_of

from shadowattn.models.op_options import OpOptions
from shadowattn.runtime.litert.delegate import library_path

SIZES = Sizes(4)


def zeros(sizes: Sizes = SIZES) -> dict[str, np.ndarray]:
    """A chunk of zeros."""
    kv = (1, sizes.time, sizes.num_kv_heads, sizes.head_dim)
    return {
        "q": np.zeros((1, sizes.time, sizes.num_heads, sizes.head_dim), np.float32),
        "k": np.zeros(kv, np.float32),
        "v": np.zeros(kv, np.float32),
    }


@pytest.mark.parametrize(
    ("position", "n_valid", "cache", "message"),
    [
        (0, 0, 0, r"ShadowSparseAttention \(layer 0\): n_valid must be in 1..4, got 0"),
        (0, 5, 0, "n_valid must be in 1..4, got 5"),
        (0, -(2**31), 0, "n_valid must be in 1..4"),
        (-1, 1, 0, "position must not be negative, got -1"),
        (3, 1, 0, "position 3 leaves a gap: cache 0 holds 2 positions; continue at 2"),
        (2**31 - 1, 4, 0, "cache 0 is full"),
        (2, 1, 3, "cache 3 does not exist"),
        (2, 1, -1, "cache -1 does not exist"),
    ],
)
def test_integers_out_of_range(position: int, n_valid: int, cache: int, message: str) -> None:
    op = OneOp(SIZES, mode="dense", max_length=20)
    op.run(zeros(), 0, 2)
    with pytest.raises(RuntimeError, match=message):
        op.run(zeros(), position, n_valid, cache)
    op.run(zeros(), 2, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("mode", ["dense", "shadow"])
def test_a_value_that_is_not_finite(mode: str, name: str, value: float, tmp_path: Path) -> None:
    (tmp_path / "plan.bin").write_bytes(plan_for(np.ones((4, 2, 16), np.float32), 4).to_bytes())
    op = OneOp(SIZES, mode=mode, plan=tmp_path / "plan.bin")
    op.run(zeros(), 0)
    chunk = zeros()
    chunk[name][0, 2, 1, 7] = value
    with pytest.raises(RuntimeError, match=f"{name} of layer 0 at position 6 holds NaN or infinity"):
        op.run(chunk, 4)
    op.run(chunk, 4, 2)  # in padding it is not looked at


def test_shadow_without_a_plan() -> None:
    with pytest.raises(RuntimeError, match="needs a plan; pass the delegate option plan=PATH, or use mode=dense"):
        OneOp(SIZES).run(zeros(), 0)


def test_the_plan_of_another_model(tmp_path: Path) -> None:
    (tmp_path / "plan.bin").write_bytes(plan_for(np.ones((4, 1, 16), np.float32), 4).to_bytes())
    with pytest.raises(RuntimeError, match="pass the plan of this bundle"):
        OneOp(SIZES, plan=tmp_path / "plan.bin").run(zeros(), 0)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:4] + b"\x63" + b[5:], lambda b: b + b"x"]
)
def test_a_damaged_plan(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    plan = plan_for(np.ones((4, 2, 16), np.float32), 4).to_bytes()
    (tmp_path / "plan.bin").write_bytes(damage(plan))
    with pytest.raises(ValueError, match=r"plan\.bin"):
        OneOp(SIZES, plan=tmp_path / "plan.bin")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nope": 1}, "unknown option 'nope'; allowed are num_threads, mode"),
        ({"keep_ratio": 0}, "keep_ratio must be auto, or above 0 and at most 1, got '0'"),
        ({"keep_ratio": "nan"}, "keep_ratio must be auto, or above 0"),
        ({"mode": "fast"}, "mode must be one of shadow, dense, int8, .*, npu_full, got 'fast'"),
        ({"threshold": 1}, r"threshold must be a probability in \[0, 1\), 0 for that of keep_ratio, got '1'"),
        ({"threshold": "nan"}, "threshold must be a probability"),
        ({"compensate": "yes"}, "compensate must be on or off, got 'yes'"),
        ({"num_threads": 65}, "num_threads must be a whole number in 1..64"),
        ({"cache_type": "f8"}, "cache_type must be f16 or f32"),
        ({"isa": "mmx"}, "isa=mmx"),
        ({"plan": "/nowhere/plan.bin"}, "/nowhere/plan.bin cannot be opened"),
    ],
)
def test_delegate_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OneOp(SIZES, **options)


OPTIONS = OpOptions(0, 1, SIZES.num_heads, SIZES.num_kv_heads, SIZES.head_dim, 0.25).pack()


def with_flags(options: bytes, flags: int) -> bytes:
    """The same with other flags, and the checksum of it."""
    body = options[:6] + struct.pack("<H", flags) + options[8:36]
    return body + struct.pack("<I", zlib.crc32(body))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (OPTIONS[:39], "expected 40 option bytes, got 39"),
        (b"", "expected 40 option bytes, got 0"),
        (b"XXXX" + OPTIONS[4:], "do not begin with SHDW"),
        (OPTIONS[:4] + b"\2" + OPTIONS[5:], "have version 2, this delegate knows 1"),
        (OPTIONS[:30] + b"\0" + OPTIONS[31:], "wrong checksum"),
        (OpOptions(0, 1, 4, 2, 32, 0.25).pack(), r"q must have shape \[1,any,4,32\], got \[1,4,4,16\]"),
        (with_flags(OPTIONS, 4), "flags"),
    ],
)
def test_option_bytes(options: bytes, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        OneOp(SIZES, one_op_model(SIZES, options), mode="dense").run(zeros(), 0)


def test_random_integers_never_crash() -> None:
    op = OneOp(SIZES, mode="dense", max_length=64)
    rng = np.random.default_rng(7)
    good = 0
    for _ in range(500):
        position, n_valid, cache = (int(x) for x in rng.choice([-1, 0, 1, 2, 4, 5, 2**31 - 1, -(2**31)], 3))
        try:
            op.run(zeros(), position, n_valid, cache)
            good += 1
        except RuntimeError:
            pass
    assert good > 0


def test_benchmark_rows_makes_random_inputs_run() -> None:
    op = OneOp(SIZES, mode="dense", benchmark_rows=100)
    for number in (-(2**31), -7, 12345, 2**31 - 1):
        assert np.isfinite(op.run(zeros(), number, number, number)).all()


def test_several_interpreters_share_a_delegate() -> None:
    delegate = load_delegate(str(library_path()), {"mode": "dense"})
    runners = {}
    for time in (4, 1):
        interpreter = Interpreter(model_content=one_op_model(Sizes(time)), experimental_delegates=[delegate])
        runners[time] = interpreter.get_signature_runner(f"prefill_{time}")

    def run(time: int, chunk: dict[str, np.ndarray], position: int) -> np.ndarray:
        scalars = {"position": position, "n_valid": time, "cache": 0}
        return runners[time](**chunk, **{name: np.array([x], np.int32) for name, x in scalars.items()})["o"]

    run(4, zeros(), 0)
    newest = {name: array[:, :1] + 1 for name, array in zeros().items()}
    assert (run(1, newest, 4) > 0.5).all()  # five rows, and the newest has the largest score


CYCLES = Path(__file__).with_name("open_and_close.py")


def test_a_thousand_open_and_close_cycles_leak_nothing() -> None:
    """whole: with an interpreter and a chunk, 1,000 counted; bare: the delegate alone, 20,000."""
    found = growth_of(CYCLES)
    assert found["whole"] < 512, found
    assert found["bare"] < 32, found


def test_a_leak_of_a_kilobyte_would_be_seen() -> None:
    found = growth_of(CYCLES, "--leak=1024")
    assert found["whole"] >= 512, found
    assert found["bare"] >= 32, found
