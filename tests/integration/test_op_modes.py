"""Modes int8, block_sparse and npu_full of the fused op in LiteRT against the NumPy oracle, on every ISA level."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from one_op import LEVELS, OneOp, Rows, Sizes, feed, open_op, plan_for
from test_op_oracle import SEED, random_text

from shadowattn.models.oracle import modes as oracle_modes
from shadowattn.models.oracle.steps import SelectRule
from shadowattn.models.plan import Plan

MODES = ["int8", "block_sparse", "npu_full"]
# Around a page of 64 positions; GQA groups of 1, 3 and 5; head dims around a block of 64 channels; texts within a page.
CASES = [
    pytest.param(Sizes(7, 5, 1, 40), 64, marks=pytest.mark.arm),
    pytest.param(Sizes(16, 2, 2, 128), 65, marks=pytest.mark.arm),
    pytest.param(Sizes(30, 3, 1, 80), 63, marks=pytest.mark.arm),
    pytest.param(Sizes(64, 4, 4, 5), 129, marks=pytest.mark.arm),
    pytest.param(Sizes(65, 9, 3, 64), 300, marks=pytest.mark.arm),
    (Sizes(200, 3, 1, 64), 1000),
]


def plan_with_ranges(text: Rows, sizes: Sizes) -> Plan:
    """Static ranges so tight that some of everything saturates."""
    q, k, v = text
    plan = plan_for(k, sizes.num_heads)
    repeated = np.repeat(k, sizes.num_heads // sizes.num_kv_heads, axis=1)
    score = np.abs(np.einsum("thd,thd->th", q, repeated)).max()
    ranges = 0.7 * np.array([[np.abs(q).max(), np.abs(k).max(), np.abs(v).max(), 1.5 * score, np.abs(v).max() / 2]])
    return dataclasses.replace(plan, static_ranges=ranges.astype(np.float32))


def run(
    mode: str, text: Rows, sizes: Sizes, folder: Path, rule: SelectRule | None = None, **options: object
) -> np.ndarray:
    """The whole text through the op."""
    settings = SelectRule(0.3, 8) if rule is None else rule
    op = open_op(sizes, plan_with_ranges(text, sizes), settings, folder, mode=mode, **options)
    return feed(op, *text)


def expected(mode: str, text: Rows, sizes: Sizes, rows: slice, rule: SelectRule | None = None) -> np.ndarray:
    """What the oracle says to some rows: those of whole chunks, as a block's mean is over the rows of one."""
    q, k, v = text
    plan, part = plan_with_ranges(text, sizes), (q[rows], k[: rows.stop], v[: rows.stop])
    if mode == "int8":
        return oracle_modes.int8_attention(*part, plan, sizes.softmax_scale)
    if mode == "npu_full":
        return oracle_modes.npu_full_attention(*part, plan, sizes.softmax_scale)
    settings = SelectRule(0.3, 8) if rule is None else rule
    return oracle_modes.block_sparse_attention(*part, sizes.softmax_scale, settings.keep_ratio, settings.min_k)


def check(mode: str, out: np.ndarray, wanted: np.ndarray, values: np.ndarray, step: float) -> None:
    """Float rounding, and where integers are rounded from floats: a weight on the edge may fall either way."""
    error = np.abs(out - wanted)
    exact = 64 * np.finfo(np.float32).eps * np.abs(values).max()
    if mode == "block_sparse":
        assert error.max() <= exact
    elif mode == "int8":
        # One unit of one weight of a page times the largest value.
        assert error.max() <= exact + np.abs(values).max() / 127
        assert (error > exact).mean() < 0.02
    else:
        assert error.max() <= 1.01 * step
        assert (error > step / 2).mean() < 0.01


@pytest.mark.parametrize("isa", LEVELS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("sizes", "n"), CASES, ids=str)
def test_against_the_oracle(sizes: Sizes, n: int, mode: str, isa: str, tmp_path: Path) -> None:
    text = random_text(n, sizes)
    out = run(mode, text, sizes, tmp_path, isa=isa)
    last = n % sizes.time or sizes.time
    step = float(plan_with_ranges(text, sizes).static_ranges[0, -1]) / 127
    for rows in (slice(0, min(n, sizes.time)), slice(n - last, n)):
        check(mode, out[rows], expected(mode, text, sizes, rows), text[2], step)


@pytest.mark.parametrize("mode", ["int8", "npu_full"])
@pytest.mark.parametrize("cache_type", ["f16", "f32"])
def test_any_chunking_gives_the_same_bits(mode: str, cache_type: str, tmp_path: Path) -> None:
    text = random_text(333, Sizes(1, 6, 2, 64))
    outputs = [
        run(mode, text, Sizes(time, 6, 2, 64), tmp_path, cache_type=cache_type) for time in (1, 17, 63, 64, 65, 333)
    ]
    for other in outputs[1:]:
        np.testing.assert_array_equal(outputs[0], other)


def test_chunks_of_whole_blocks_choose_the_same_pages(tmp_path: Path) -> None:
    text = random_text(640, Sizes(1, 6, 2, 64))
    outputs = [run("block_sparse", text, Sizes(time, 6, 2, 64), tmp_path) for time in (64, 128, 640)]
    for other in outputs[1:]:
        np.testing.assert_array_equal(outputs[0], other)


@pytest.mark.parametrize("mode", MODES)
def test_two_threads_give_the_same_bits(mode: str, tmp_path: Path) -> None:
    sizes = Sizes(100, 9, 3, 64)
    text = random_text(700, sizes)
    one, two = (run(mode, text, sizes, tmp_path, num_threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.arm
@pytest.mark.parametrize("isa", LEVELS[1:])
@pytest.mark.parametrize("mode", ["int8", "npu_full"])
def test_every_isa_has_the_same_integers(mode: str, isa: str, tmp_path: Path) -> None:
    sizes = Sizes(50, 3, 1, 64)
    text = random_text(256, sizes)
    scalar = run(mode, text, sizes, tmp_path, isa="scalar")
    other = run(mode, text, sizes, tmp_path, isa=isa)
    np.testing.assert_allclose(other, scalar, rtol=0, atol=8 * np.finfo(np.float32).eps * np.abs(text[2]).max())


@pytest.mark.parametrize("mode", MODES)
def test_rewound_pages_are_made_again(mode: str, tmp_path: Path) -> None:
    sizes = Sizes(100, 3, 1, 64)
    text, other = random_text(400, sizes), random_text(400, sizes, SEED + 1)
    plan = plan_with_ranges(text, sizes)
    op = open_op(sizes, plan, SelectRule(0.3, 8), tmp_path, mode=mode)
    feed(op, *other)  # position 0 of the next text rewinds it
    fresh = open_op(sizes, plan, SelectRule(0.3, 8), tmp_path, mode=mode)
    np.testing.assert_array_equal(feed(op, *text), feed(fresh, *text))
    # And from the middle of a page on.
    last = [array[100:200][None] for array in other]
    again, first = (o.run(dict(zip("qkv", last, strict=True)), 100) for o in (op, fresh))
    np.testing.assert_array_equal(again, first)
    half = open_op(sizes, plan, SelectRule(0.3, 8), tmp_path, mode=mode)
    feed(half, *(array[:100] for array in text))
    np.testing.assert_array_equal(half.run(dict(zip("qkv", last, strict=True)), 100), first)


@pytest.mark.parametrize("keep_ratio", [1e-6, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("min_k", [1, 316])
def test_block_sparse_keeps_as_many_pages_as_it_is_told(keep_ratio: float, min_k: int, tmp_path: Path) -> None:
    sizes, rule = Sizes(500, 12, 1, 16), SelectRule(keep_ratio, min_k)  # 316: within a block
    text = random_text(500, sizes)
    out = run("block_sparse", text, sizes, tmp_path, rule)
    check("block_sparse", out, expected("block_sparse", text, sizes, slice(0, 500), rule), text[2], 0)


def test_of_equal_blocks_the_newer_is_kept(tmp_path: Path) -> None:
    sizes, rule = Sizes(400, 3, 1, 16), SelectRule(0.4, 1)
    q, k, v = random_text(400, sizes)
    k[:] = np.round(k[:1])  # small whole numbers: their sums are exact
    out = run("block_sparse", (q, k, v), sizes, tmp_path, rule)
    wanted = expected("block_sparse", (q, k, v), sizes, slice(0, 400), rule)
    check("block_sparse", out, wanted, v, 0)
    assert oracle_modes.selected_pages(0.4, 7) == 3
    np.testing.assert_allclose(out[-1, :16], v[[*range(64), *range(320, 400)], 0].mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_keys_and_values_of_any_size(mode: str, tmp_path: Path) -> None:
    sizes = Sizes(64, 2, 1, 16)
    q, k, v = random_text(300, sizes)
    v[:, :, 3] = 0
    v[70, :, 5] = 1e6
    k[150, 0, 3] = 3e4
    v[64:128] *= 1e-42
    out = run(mode, (q, k, v), sizes, tmp_path)
    assert np.isfinite(out).all()
    assert not out.reshape(300, 2, 16)[:, :, 3].any()


def test_npu_full_needs_ranges(tmp_path: Path) -> None:
    sizes = Sizes(8)
    text = random_text(8, sizes)
    op = open_op(sizes, plan_for(text[1], sizes.num_heads), SelectRule(), tmp_path, mode="npu_full")
    with pytest.raises(RuntimeError, match=r"npu_full needs static ranges: run `shadowattn calibrate BUNDLE`"):
        feed(op, *text)


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_needs_a_plan(mode: str) -> None:
    sizes = Sizes(8)
    q, k, v = random_text(8, sizes)
    with pytest.raises(RuntimeError, match="plan=PATH"):
        OneOp(sizes, mode=mode).run({"q": q[None], "k": k[None], "v": v[None]}, 0)
