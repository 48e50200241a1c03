"""One ShadowSparseAttention in LiteRT, run chunk by chunk, and what the oracle says to it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, load_delegate
from flat_graph import FlatModel

from shadowattn.models.op_options import SPARSE_ATTENTION, OpOptions
from shadowattn.models.oracle import steps
from shadowattn.models.oracle.shadow import Chunk, ShadowRule, shadow_attention
from shadowattn.models.oracle.steps import SelectRule
from shadowattn.models.plan import Plan
from shadowattn.runtime.litert.delegate import CacheStats, ShadowDelegate, ShadowLibrary, library_path
from shadowattn.runtime.litert.interpreter import delegate_pointer

LEVELS = ["scalar", "avx2", "avx512", "avx512vnni", "avx512amx", "neon", "neondot", "neoni8mm"]
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # of a text: q [n,H,d], k and v [n,N_kv,d]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """T rows a chunk, H query heads, N_kv KV heads, d head dim."""

    time: int
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 16

    @property
    def softmax_scale(self) -> float:
        return float(np.float32(self.head_dim**-0.5))


def one_op_model(sizes: Sizes, options: bytes | None = None) -> bytes:
    """A .tflite file with one signature `prefill_<T>` that holds the op alone."""
    op = OpOptions(0, 1, sizes.num_heads, sizes.num_kv_heads, sizes.head_dim, sizes.softmax_scale)
    model = FlatModel()
    graph = model.graph(f"prefill_{sizes.time}")
    kv = (1, sizes.time, sizes.num_kv_heads, sizes.head_dim)
    inputs = [graph.input("q", (1, sizes.time, sizes.num_heads, sizes.head_dim)), graph.input("k", kv)]
    inputs.append(graph.input("v", kv))
    inputs += [graph.input(name, (1,), "int32") for name in ("position", "n_valid", "cache")]
    wide = sizes.num_heads * sizes.head_dim
    data = op.pack() if options is None else options
    [o] = graph.custom(SPARSE_ATTENTION, inputs, [((1, sizes.time, wide), "float32", None)], data)
    graph.finish({"o": o})
    return model.to_bytes()


def plan_for(keys: np.ndarray, num_heads: int) -> Plan:
    """A plan fitted on keys [S,N_kv,d], with a scale so tight that some elements are clamped."""
    finite = np.where(np.isfinite(keys), keys, 0)
    centre = finite.mean(axis=0).astype(np.float32)
    spread = np.maximum(np.abs(finite - centre).max(axis=(0, 2)), 1e-6)
    scale = (0.9 * spread / 127).astype(np.float32)
    quantised, _ = steps.quantize_keys(finite, centre, scale)
    variance = quantised.astype(np.float32).var(axis=0)
    plan = Plan.uniform(num_heads, centre[None], scale[None], variance[None], 1 / 256)
    factors = np.float32(2.0) ** (np.arange(num_heads) % 3 - 1)
    budgets = np.linspace(0.5, 1.5, num_heads, dtype=np.float32)
    return dataclasses.replace(plan, threshold_factors=factors[None], paper_budgets=budgets[None])


class OneOp:
    """An interpreter with the op and the delegate; `run` is one chunk on cache 0."""

    def __init__(self, sizes: Sizes, model: bytes | None = None, **options: object) -> None:
        self.sizes = sizes
        self.delegate = load_delegate(str(library_path()), {key: str(value) for key, value in options.items()})
        content = one_op_model(sizes) if model is None else model
        self.interpreter = Interpreter(model_content=content, experimental_delegates=[self.delegate])
        self.runner = self.interpreter.get_signature_runner(f"prefill_{sizes.time}")

    def run(
        self, chunk: dict[str, np.ndarray], position: int, n_valid: int | None = None, cache: int = 0
    ) -> np.ndarray:
        """chunk q, k, v of T rows -> o [T,H*d]."""
        scalars = {"position": position, "n_valid": self.sizes.time if n_valid is None else n_valid, "cache": cache}
        return self.runner(**chunk, **{k: np.array([v], np.int32) for k, v in scalars.items()})["o"][0]

    @property
    def caches(self) -> ShadowDelegate:
        return ShadowDelegate(ShadowLibrary(library_path()), delegate_pointer(self.delegate))

    def stats(self) -> CacheStats:
        """What cache 0 counted."""
        return self.caches.cache_stats(0)


def rule_options(rule: SelectRule | ShadowRule) -> dict[str, object]:
    """The delegate options that say the same. SelectRule: mode shadow_paper; ShadowRule: mode shadow."""
    options: dict[str, object] = {"min_k": rule.min_k, "sinks": rule.sinks, "latest": rule.latest}
    if isinstance(rule, SelectRule):
        return options | {"mode": "shadow_paper", "keep_ratio": rule.keep_ratio}
    keep_ratio = "auto" if rule.keep_ratio is None else rule.keep_ratio
    return (
        options
        | {"keep_ratio": keep_ratio, "threshold": rule.threshold, "max_skipped_mass": rule.max_skipped_mass}
        | {"compensate": "on" if rule.compensate else "off"}
    )


def open_op(
    sizes: Sizes,
    plan: Plan,
    rule: SelectRule | ShadowRule,
    folder: Path,
    model: bytes | None = None,
    **options: object,
) -> OneOp:
    """An op with that plan and rule, float32 cache; skips, with a message, where the machine lacks the ISA level."""
    (folder / "plan.bin").write_bytes(plan.to_bytes())
    settings = {"plan": folder / "plan.bin", "cache_type": "f32"} | rule_options(rule)
    try:
        return OneOp(sizes, model, **(settings | options))
    except ValueError as error:
        if "is more than this machine has" in str(error):
            pytest.skip(str(error).splitlines()[-1])
        raise


def feed(op: OneOp, q: np.ndarray, k: np.ndarray, v: np.ndarray, position: int = 0) -> np.ndarray:
    """A whole text, q [n,H,d], k and v [n,N_kv,d], in chunks of T; the padding of the last holds NaN and infinity.
    position: of its first row."""
    time, outputs = op.sizes.time, []
    for start in range(0, len(q), time):
        rows = min(time, len(q) - start)
        chunk = {}
        for name, array in (("q", q), ("k", k), ("v", v)):
            padded = np.full((1, time, *array.shape[1:]), np.nan, np.float32)
            padded[0, rows::2] = np.inf
            padded[0, :rows] = array[start : start + rows]
            chunk[name] = padded
        out = op.run(chunk, position + start, rows)
        assert not out[rows:].any(), "padding rows of the output must be zero"
        outputs.append(out[:rows])
    return np.concatenate(outputs)


def oracle(rows: Rows, plan: Plan, rule: SelectRule | ShadowRule, scale: float, last: int) -> np.ndarray:
    """What the op must give for the last `last` rows of a text, at float32 cache: float64 [last,H*d]."""
    q, k, v = rows
    if isinstance(rule, ShadowRule) and rule.keep_ratio != 1.0:
        return shadow_attention(Chunk(q[-last:], k, v, plan, scale), rule).out
    scores = None
    if isinstance(rule, SelectRule) and rule.keep_ratio < 1.0:
        k_i8, _ = steps.quantize_keys(k, plan.centre[0], plan.scale[0])
        scores = steps.estimate(steps.quantize_queries(q[-last:]), k_i8)
    return (
        steps.sparse_attention(q[-last:], k, v, scores, SelectRule(), scale)
        if scores is None
        else (steps.sparse_attention(q[-last:], k, v, scores, rule, scale, plan.paper_budgets[0]))
    )
