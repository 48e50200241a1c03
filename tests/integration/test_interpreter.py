"""The ops in LiteRT: every refusal reaches Python as one sentence, and the split form follows the oracle."""

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, load_delegate
from flat_graph import FlatModel
from one_op import OneOp, Sizes, one_op_model, plan_for

from shadowattn.models import reference
from shadowattn.models.op_options import KV_APPEND, SPARSE_ATTENTION, Form, OpOptions
from shadowattn.models.plan import Plan
from shadowattn.models.reference import SelectRule
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
    "damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:4] + b"\2" + b[5:], lambda b: b + b"x"]
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
        ({"keep_ratio": 0}, "keep_ratio must be above 0 and at most 1, got '0'"),
        ({"keep_ratio": "nan"}, "keep_ratio must be above 0"),
        ({"mode": "fast"}, "mode must be shadow or dense, got 'fast'"),
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


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_thousand_open_and_close_cycles_leak_nothing() -> None:
    library = ctypes.CDLL(str(library_path()))
    library.tflite_plugin_create_delegate.restype = ctypes.c_void_p
    library.tflite_plugin_destroy_delegate.argtypes = [ctypes.c_void_p]
    before = 0
    for cycle in range(1000):
        delegate = library.tflite_plugin_create_delegate(None, None, 0, None)
        library.tflite_plugin_destroy_delegate(delegate)
        if cycle % 10 == 0:
            OneOp(SIZES, mode="dense").run(zeros(), 0)
        before = resident_bytes() if cycle == 100 else before
    assert resident_bytes() - before < 4_000_000


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


@pytest.mark.parametrize("keep_ratio", [0.2, 1.0])
def test_split_form_follows_the_oracle(keep_ratio: float, tmp_path: Path) -> None:
    sizes, length, seq_len = Sizes(33, 6, 2, 32), 200, 256
    rng = np.random.default_rng(5)
    q = rng.normal(size=(length, 6, 32)).astype(np.float32)
    k, v = (rng.normal(size=(length, 2, 32)).astype(np.float32) for _ in range(2))
    plan = plan_for(k, 6)
    (tmp_path / "plan.bin").write_bytes(plan.to_bytes())
    rule = SelectRule(keep_ratio, 8, 4, 16)
    settings = {"keep_ratio": keep_ratio, "min_k": 8, "cache_type": "f32", "plan": tmp_path / "plan.bin"}
    op = OneOp(sizes, split_model(sizes, plan, seq_len), **settings)
    k_i8, _ = reference.quantize_keys(k, plan.centre[0], plan.scale[0])
    for start in range(0, length, sizes.time):
        end = min(start + sizes.time, length)
        scalars = {"position": start, "n_valid": end - start, "cache": 0, "layer": 0}
        chunk = {name: padded(array[start:end], sizes.time) for name, array in (("q", q), ("k", k), ("v", v))}
        result = op.runner(**chunk, **{name: np.array([x], np.int32) for name, x in scalars.items()})
        given = result["scores"].reshape(2, 3, sizes.time, seq_len)[:, :, : end - start, :end].astype(int)
        wanted = coarse_scores(q[start:end], k_i8[:end], plan)
        np.testing.assert_allclose(given, wanted, rtol=0, atol=1)  # the graph rounds halves its own way
        ranked_by = None if keep_ratio == 1.0 else given.transpose(2, 0, 1, 3).reshape(end - start, 6, end)
        expected = reference.sparse_attention(q[start:end], k[:end], v[:end], ranked_by, rule, sizes.softmax_scale)
        np.testing.assert_allclose(result["o"][0, : end - start], expected, rtol=0, atol=1e-5)
        assert not result["o"][0, end - start :].any()


def padded(rows: np.ndarray, time: int) -> np.ndarray:
    """rows [n,...] -> [1,time,...], zeros behind."""
    out = np.zeros((1, time, *rows.shape[1:]), np.float32)
    out[0, : len(rows)] = rows
    return out


def coarse_scores(q: np.ndarray, k_i8: np.ndarray, plan: Plan) -> np.ndarray:
    """int [N_kv,G,T,S] of the oracle."""
    q_i8 = reference.quantize_queries_coarse(q, plan.k_variance[0], plan.estimate_multiplier)
    scores = reference.estimate_coarse(q_i8, k_i8.transpose(1, 0, 2), plan.estimate_multiplier)
    return scores.reshape(len(q_i8), -1, len(q), len(k_i8)).astype(int)
