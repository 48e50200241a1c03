"""The fused op in LiteRT against the NumPy oracle, on every ISA level of this machine."""

from pathlib import Path

import numpy as np
import pytest
from one_op import OneOp, Sizes, feed, oracle, plan_for

from shadowattn.models.plan import Plan
from shadowattn.models.reference import SelectRule

SEED = 20261121
LEVELS = ["scalar", "avx2", "avx512", "avx512vnni"]


def random_text(n: int, sizes: Sizes, seed: int = SEED) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """q [n,H,d], k and v [n,N_kv,d], with a centre and an outlier channel in k, as real keys have."""
    print("seed", seed)
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(n, sizes.num_heads, sizes.head_dim)) * 2
    k = rng.normal(size=(n, sizes.num_kv_heads, sizes.head_dim)) + rng.normal(size=(1, 1, sizes.head_dim)) * 3
    v = rng.normal(size=(n, sizes.num_kv_heads, sizes.head_dim))
    return q.astype(np.float32), k.astype(np.float32), v.astype(np.float32)


def open_op(sizes: Sizes, plan: Plan, rule: SelectRule, folder: Path, **options: object) -> OneOp:
    """An op with that plan and rule, float32 cache; skips aloud where the machine lacks the ISA level."""
    (folder / "plan.bin").write_bytes(plan.to_bytes())
    settings = {
        "plan": folder / "plan.bin",
        "keep_ratio": rule.keep_ratio,
        "min_k": rule.min_k,
        "sinks": rule.sinks,
        "latest": rule.latest,
        "cache_type": "f32",
    }
    try:
        return OneOp(sizes, **(settings | options))
    except ValueError as error:
        if "isa" in options and "isa" in str(error):
            pytest.skip(f"this machine lacks {options['isa']}: {error}")
        raise


def check(
    text: tuple[np.ndarray, np.ndarray, np.ndarray], sizes: Sizes, rule: SelectRule, folder: Path, **options: object
) -> None:
    """Runs the text through the op and compares its last rows (at most 40) with the oracle."""
    plan = plan_for(text[1], sizes.num_heads)
    out = feed(open_op(sizes, plan, rule, folder, **options), *text)
    last = min(len(out), 40)
    expected = oracle(text, plan, rule, sizes.softmax_scale, last)
    # A float32 sum of n products: a few ulp of the largest value that enters it.
    tolerance = 64 * np.finfo(np.float32).eps * np.abs(text[2]).max()
    np.testing.assert_allclose(out[-last:], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("isa", LEVELS)
@pytest.mark.parametrize(
    ("sizes", "n"),
    [
        (Sizes(1), 70),
        (Sizes(7, 5, 1, 40), 64),
        (Sizes(16, 2, 2, 128), 65),
        (Sizes(63, 9, 3, 64), 200),
        (Sizes(64, 4, 4, 8), 1000),
        (Sizes(65, 3, 1, 80), 131),
        (Sizes(130, 6, 2, 64), 700),
        (Sizes(130, 3, 1, 64), 5000),
    ],
    ids=str,
)
def test_random_texts(sizes: Sizes, n: int, isa: str, tmp_path: Path) -> None:
    check(random_text(n, sizes), sizes, SelectRule(0.2, 8, 4, 16), tmp_path, isa=isa)


@pytest.mark.parametrize("time", [*range(1, 20), 31, 32, 33, 63, 64, 65, 127, 128, 129, 130])
def test_every_chunk_length(time: int, tmp_path: Path) -> None:
    sizes = Sizes(time, 2, 1, 24)
    check(random_text(2 * time + 3, sizes), sizes, SelectRule(0.3, 2, 1, 2), tmp_path)


@pytest.mark.parametrize("keep_ratio", [1e-6, 0.01, 0.1, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("forced", [(0, 0), (4, 16), (300, 300)])
def test_from_one_token_to_all(keep_ratio: float, forced: tuple[int, int], tmp_path: Path) -> None:
    sizes = Sizes(32)
    check(random_text(400, sizes), sizes, SelectRule(keep_ratio, 1, *forced), tmp_path)


@pytest.mark.parametrize("isa", LEVELS)
def test_equal_scores(isa: str, tmp_path: Path) -> None:
    sizes = Sizes(16)
    q, k, v = random_text(200, sizes)
    k[:] = k[:1]
    check((q, k, v), sizes, SelectRule(0.1, 1, 2, 2), tmp_path, isa=isa)
    q[:] = 0
    check((q, k, v), sizes, SelectRule(0.1, 1, 2, 2), tmp_path, isa=isa)


@pytest.mark.parametrize("isa", LEVELS)
def test_one_huge_outlier(isa: str, tmp_path: Path) -> None:
    sizes = Sizes(16)
    q, k, v = random_text(300, sizes)
    k[150, 0, 3] = 3e4
    v[20] = 1e6
    check((q, k, v), sizes, SelectRule(0.1, 4, 2, 2), tmp_path, isa=isa)


def test_the_very_end_of_a_cache(tmp_path: Path) -> None:
    sizes = Sizes(32)
    text = random_text(301, sizes)
    check(text, sizes, SelectRule(0.2, 8, 4, 16), tmp_path, max_length=301)
    plan = plan_for(text[1], sizes.num_heads)
    op = open_op(sizes, plan, SelectRule(), tmp_path, max_length=300)
    with pytest.raises(RuntimeError, match="full"):
        feed(op, *text)


def test_two_threads_give_the_same_bits(tmp_path: Path) -> None:
    sizes = Sizes(100, 9, 3, 64)
    text = random_text(1000, sizes)
    plan = plan_for(text[1], sizes.num_heads)
    one, two = (feed(open_op(sizes, plan, SelectRule(), tmp_path, num_threads=n), *text) for n in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("mode", ["dense", "shadow"])
def test_any_chunking_gives_the_same_bits(mode: str, tmp_path: Path) -> None:
    text = random_text(333, Sizes(1, 6, 2, 64))
    plan = plan_for(text[1], 6)
    outputs = [
        feed(open_op(Sizes(time, 6, 2, 64), plan, SelectRule(), tmp_path, mode=mode, cache_type="f16"), *text)
        for time in (1, 17, 64, 333)
    ]
    for other in outputs[1:]:
        np.testing.assert_array_equal(outputs[0], other)
