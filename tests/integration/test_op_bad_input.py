"""Bad input to the fused op in LiteRT: an error with a message, the cache as it was, never a crash."""

from pathlib import Path

import numpy as np
import pytest
from one_op import OneOp, Sizes, one_op_model, plan_for
from test_op_oracle import SEED, random_text

from shadowattn.models.op_options import OpOptions
from shadowattn.models.plan import Plan

SIZES = Sizes(8)
GOOD = OpOptions(0, 1, SIZES.num_heads, SIZES.num_kv_heads, SIZES.head_dim, SIZES.softmax_scale).pack()


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.bin"
    path.write_bytes(plan_for(random_text(50, SIZES)[1], SIZES.num_heads).to_bytes())
    return path


def a_chunk(seed: int = SEED) -> dict[str, np.ndarray]:
    q, k, v = random_text(SIZES.time, SIZES, seed)
    return {"q": q[None], "k": k[None], "v": v[None]}


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"position": -1}, "position"),
        ({"position": 9}, "gap"),
        ({"position": 2**31 - 1}, "position"),
        ({"n_valid": 0}, "n_valid"),
        ({"n_valid": 9}, "n_valid"),
        ({"n_valid": -(2**31)}, "n_valid"),
        ({"cache": 1}, "cache"),
        ({"cache": -7}, "cache"),
    ],
    ids=str,
)
def test_numbers_out_of_range(numbers: dict[str, int], message: str, plan_file: Path) -> None:
    op = OneOp(SIZES, plan=plan_file)
    op.run(a_chunk(), 0)
    with pytest.raises(RuntimeError, match=message):
        op.run(a_chunk(), **({"position": 8} | numbers))
    fresh = OneOp(SIZES, plan=plan_file)
    fresh.run(a_chunk(), 0)
    np.testing.assert_array_equal(op.run(a_chunk(2), 8), fresh.run(a_chunk(2), 8))


def test_random_integers_as_benchmark_model_feeds_them(plan_file: Path) -> None:
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    op = OneOp(SIZES, plan=plan_file)
    refused = 0
    for _ in range(300):
        position, n_valid, cache = (int(x) for x in rng.integers(-(2**31), 2**31, 3) >> int(rng.integers(0, 32)))
        try:
            op.run(a_chunk(), position, n_valid, cache)
        except RuntimeError:
            refused += 1
    assert refused > 200
    assert np.isfinite(op.run(a_chunk(), 0)).all()


def test_random_integers_mean_something_with_benchmark_rows(plan_file: Path) -> None:
    op = OneOp(SIZES, plan=plan_file, benchmark_rows=500)
    for position, n_valid, cache in [(99, 99, 99), (-5, -5, -5), (2**31 - 1, 2**31 - 1, 2**31 - 1)]:
        assert np.isfinite(op.run(a_chunk(), position, n_valid, cache)).all()


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(name: str, value: float, plan_file: Path) -> None:
    op = OneOp(SIZES, plan=plan_file)
    chunk = a_chunk()
    chunk[name][0, 5, 1, 3] = value
    with pytest.raises(RuntimeError, match=rf"\b{name}\b.*position 5|position 5.*\b{name}\b"):
        op.run(chunk, 0)
    op.run(a_chunk(), 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (GOOD[:-1], "40"),
        (b"", "40"),
        (GOOD[:4] + b"\x07\x00" + GOOD[6:], "version 7"),
        (b"XXXX" + GOOD[4:], "SHDW"),
        (GOOD[:20] + b"\x01" + GOOD[21:], "CRC|checksum"),
        (OpOptions(0, 1, 8, 2, 16, 0.25).pack(), "q"),
        (OpOptions(0, 1, 4, 2, 24, 0.25).pack(), "q"),
    ],
    ids=["truncated", "empty", "future version", "magic", "checksum", "other heads", "other head_dim"],
)
def test_damaged_options(options: bytes, message: str, plan_file: Path) -> None:
    with pytest.raises(RuntimeError, match=message):
        OneOp(SIZES, one_op_model(SIZES, options), plan=plan_file).run(a_chunk(), 0)


def test_a_plan_is_needed_below_keep_ratio_one() -> None:
    long = {name: np.tile(array, (1, 1, 1, 1)) for name, array in a_chunk().items()}
    with pytest.raises(RuntimeError, match="plan=PATH"):
        OneOp(SIZES, min_k=1).run(long, 0)
    assert np.isfinite(OneOp(SIZES, mode="dense").run(long, 0)).all()


def test_a_plan_of_another_model(plan_file: Path) -> None:
    other = np.zeros((3, 2, 16), np.float32)
    plan = Plan.uniform(4, other, np.ones((3, 2), np.float32), other, 0.01)
    plan_file.write_bytes(plan.to_bytes())
    with pytest.raises(RuntimeError, match="plan"):
        OneOp(SIZES, plan=plan_file, min_k=1).run(a_chunk(), 0)
