"""The ops in LiteRT: every refusal reaches Python as one sentence, and the split form follows the oracle."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, load_delegate
from flat_graph import FlatModel
from one_op import OneOp, Rows, Sizes, one_op_model, open_op, plan_for
from resident_growth import growth_of

from shadowattn.models import reference
from shadowattn.models.op_options import KV_APPEND, SPARSE_ATTENTION, Form, OpOptions
from shadowattn.models.plan import Plan
from shadowattn.models.reference import SelectRule, sparse_attention
from shadowattn.models.reference_shadow import Chunk, ShadowResult, ShadowRule, shadow_attention
from shadowattn.runtime.delegate import library_path

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


OPTIONS = OpOptions(Form.FUSED, 0, 1, SIZES.num_heads, SIZES.num_kv_heads, SIZES.head_dim, 0.25).pack()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (OPTIONS[:39], "expected 40 option bytes, got 39"),
        (b"", "expected 40 option bytes, got 0"),
        (b"XXXX" + OPTIONS[4:], "do not begin with SHDW"),
        (OPTIONS[:4] + b"\2" + OPTIONS[5:], "have version 2, this delegate knows 1"),
        (OPTIONS[:30] + b"\0" + OPTIONS[31:], "wrong checksum"),
        (OpOptions(Form.FUSED, 0, 1, 4, 2, 32, 0.25).pack(), r"q must have shape \[1,any,4,32\], got \[1,4,4,16\]"),
        (OpOptions(Form.LAYER_INPUT, -1, 1, 4, 2, 16, 0.25, 64).pack(), "flags must be"),
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


def split_model(sizes: Sizes, plan: Plan, seq_len: int) -> bytes:
    """ShadowKvAppend, the INT8 estimate and ShadowSparseAttention in one graph: `prefill_<T>`."""
    heads = (sizes.num_heads, sizes.num_kv_heads, sizes.head_dim)
    kv, rows = sizes.num_kv_heads, sizes.num_heads // sizes.num_kv_heads * sizes.time
    model = FlatModel()
    graph = model.graph(f"prefill_{sizes.time}")
    q = graph.input("q", (1, sizes.time, sizes.num_heads, sizes.head_dim))
    k, v = (graph.input(name, (1, sizes.time, kv, sizes.head_dim)) for name in ("k", "v"))
    scalars = [graph.input(name, (1,), "int32") for name in ("position", "n_valid", "cache", "layer")]
    append = OpOptions(Form.LAYER_INPUT, -1, 1, *heads, sizes.softmax_scale, seq_len)
    outputs: list = [((1,), "int32", None), ((kv, rows, sizes.head_dim), "int8", 1.0)]
    outputs.append(((kv, seq_len, sizes.head_dim), "int8", 1.0))
    kv_len, q_i8, k_i8 = graph.custom(KV_APPEND, [q, k, v, *scalars], outputs, append.pack())
    output_scale = 1.0 / plan.estimate_multiplier
    scores = graph.op("BATCH_MATMUL", [q_i8, k_i8], (kv, rows, seq_len), "int8", scale=output_scale, adjY=True)
    attend = OpOptions(Form.SCORES | Form.LAYER_INPUT, -1, 1, *heads, sizes.softmax_scale)
    o_shape = (1, sizes.time, sizes.num_heads * sizes.head_dim)
    [o] = graph.custom(SPARSE_ATTENTION, [q, scores, *scalars, kv_len], [(o_shape, "float32", None)], attend.pack())
    graph.finish({"o": o, "scores": scores})
    return model.to_bytes()


SPLIT_RULES = [
    ShadowRule(0.2, 8, 4, 16),
    ShadowRule(min_k=8),
    ShadowRule(threshold=0.05, min_k=8, sinks=0, latest=0, compensate=False),
    ShadowRule(1.0),
    SelectRule(0.2, 8, 4, 16),
]


@pytest.mark.parametrize("magnitude", [1.0, 10.0])  # of the queries: 10 makes a step of the scores 0.4 logits
@pytest.mark.parametrize("rule", SPLIT_RULES, ids=["0.2", "auto", "no compensate", "1.0", "shadow_paper"])
def test_split_form_follows_the_oracle(rule: SelectRule | ShadowRule, magnitude: float, tmp_path: Path) -> None:
    sizes, length, seq_len = Sizes(33, 6, 2, 32), 200, 256
    rng = np.random.default_rng(5)
    q = (magnitude * rng.normal(size=(length, 6, 32))).astype(np.float32)
    q[[7, 70]] = 0
    k, v = (rng.normal(size=(length, 2, 32)).astype(np.float32) for _ in range(2))
    k[40] *= 6  # its scores are clipped now and then
    plan = plan_for(k, 6)
    op = open_op(sizes, plan, rule, tmp_path, split_model(sizes, plan, seq_len))
    kept = not_compensated = 0
    for start in range(0, length, sizes.time):
        end = min(start + sizes.time, length)
        given, out = run_split(op, (q, k, v), start, end)
        chunk = Chunk(q[start:end], k[:end], v[:end], plan, sizes.softmax_scale)
        np.testing.assert_allclose(given, coarse_scores(chunk), rtol=0, atol=1)  # the graph rounds halves its own way
        expected = split_oracle(chunk, rule, given.transpose(2, 0, 1, 3).reshape(end - start, 6, end))
        kept, not_compensated = kept + expected.kept.sum(), not_compensated + expected.rows_not_compensated
        np.testing.assert_allclose(out[: end - start], expected.out, rtol=0, atol=1e-5)
        assert not out[end - start :].any()
    assert (op.stats().value_rows_read, op.stats().rows_not_compensated) == (kept, not_compensated)
    if isinstance(rule, ShadowRule) and rule.compensate and rule.keep_ratio != 1.0:
        assert (0 < not_compensated < 300) if magnitude == 1.0 else not_compensated > 900  # of 1,200


def split_oracle(chunk: Chunk, rule: SelectRule | ShadowRule, scores: np.ndarray) -> ShadowResult:
    """What the op must make of the graph's scores [T,H,S]."""
    if isinstance(rule, ShadowRule) and rule.keep_ratio != 1.0:
        return shadow_attention(chunk, rule, scores)
    lengths = np.array([[chunk.length(t)] * 6 for t in range(len(chunk.q))])
    given = (chunk.q, chunk.keys, chunk.values)
    if not isinstance(rule, SelectRule):
        return ShadowResult(sparse_attention(*given, None, SelectRule(), chunk.softmax_scale), lengths, 0)
    budgets = chunk.plan.paper_budgets[0]
    kept = np.array([[rule.k(n, float(budget)) for n, budget in zip(row, budgets, strict=True)] for row in lengths])
    return ShadowResult(sparse_attention(*given, scores, rule, chunk.softmax_scale, budgets), kept, 0)


def run_split(op: OneOp, rows: Rows, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows start .. end of a text as one chunk -> (the graph's scores [N_kv,G,T,S] of what is there, o [T,H*d])."""
    sizes = op.sizes
    scalars = {"position": start, "n_valid": end - start, "cache": 0, "layer": 0}
    chunk = {name: padded(array[start:end], sizes.time) for name, array in zip("qkv", rows, strict=True)}
    result = op.runner(**chunk, **{name: np.array([x], np.int32) for name, x in scalars.items()})
    scores = result["scores"].reshape(sizes.num_kv_heads, -1, sizes.time, result["scores"].shape[-1])
    return scores[:, :, : end - start, :end].astype(int), result["o"][0]


def padded(rows: np.ndarray, time: int) -> np.ndarray:
    """rows [n,...] -> [1,time,...], zeros behind."""
    out = np.zeros((1, time, *rows.shape[1:]), np.float32)
    out[0, : len(rows)] = rows
    return out


def coarse_scores(chunk: Chunk) -> np.ndarray:
    """int [N_kv,G,T,S] of the oracle."""
    plan = chunk.plan
    k_i8, _ = reference.quantize_keys(chunk.keys, plan.centre[0], plan.scale[0])
    q_i8 = reference.quantize_queries_coarse(chunk.q, plan.k_variance[0], plan.estimate_multiplier)
    scores = reference.estimate_coarse(q_i8, k_i8.transpose(1, 0, 2), plan.estimate_multiplier)
    return scores.reshape(len(q_i8), -1, len(chunk.q), len(k_i8)).astype(int)
