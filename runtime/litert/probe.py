"""A model of one op, run through the delegate and compared with the oracle: does this installation compute?

probe.tflite is one fused ShadowSparseAttention (T 32, H 2, N_kv 1, d 16); tests/runtime/test_probe.py writes it and
checks that the file in the package is what it writes.
"""

import tempfile
from pathlib import Path

import numpy as np

from shadowattn.models.oracle.shadow import Chunk, ShadowRule, shadow_attention
from shadowattn.models.plan import Plan
from shadowattn.runtime.litert.delegate import ShadowDelegate, ShadowLibrary
from shadowattn.runtime.litert.interpreter import GraphSet, delegate_pointer, keep_infos_off_stderr, load_delegate

MODEL = Path(__file__).with_name("probe.tflite")
SIGNATURE = "probe"
ROWS, HEADS, KV_HEADS, HEAD_DIM = 32, 2, 1, 16
_RULE = ShadowRule(threshold=0.1, min_k=2, sinks=1, latest=1)  # such that most rows do not select all positions
_KEY_STEP = 4.0 / 127  # INT8 step of keys: random normal numbers hardly ever exceed 4
_TOLERANCE = 1e-4


def run_probe(library: Path) -> str:
    """Runs the op in LiteRT. Returns what was found, in words; raises ValueError or RuntimeError if it is wrong."""
    keep_infos_off_stderr()
    random = np.random.default_rng(7)
    q = random.standard_normal((ROWS, HEADS, HEAD_DIM), np.float32)
    k, v = (random.standard_normal((ROWS, KV_HEADS, HEAD_DIM), np.float32) for _ in range(2))
    found = _run(library, q, k, v)
    error = float(np.abs(found - _oracle(q, k, v)).max())
    if not error <= _TOLERANCE:
        raise ValueError(
            f"{library}: its attention is off by {error:.2g}, wanted at most {_TOLERANCE:g}; build it again"
        )
    return f"loads, and one sparse attention op is right (largest error {error:.1g})"


def _run(library: Path, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.bin"
        plan.write_bytes(_plan().to_bytes())
        options = {"plan": plan, "cache_type": "f32", "max_length": ROWS, "threshold": _RULE.threshold,
                   "min_k": _RULE.min_k, "sinks": _RULE.sinks, "latest": _RULE.latest}  # fmt: skip
        delegate = load_delegate(library, options)
        ShadowDelegate(ShadowLibrary(library), delegate_pointer(delegate)).set_signatures([SIGNATURE])
        graphs = GraphSet(MODEL, delegate, num_threads=1)
        runner = graphs.runner(SIGNATURE)
        values = {"q": q[None], "k": k[None], "v": v[None], "position": [0], "n_valid": [ROWS], "cache": [0]}
        for name, value in values.items():
            runner.inputs[name][...] = value
        runner.invoke()
        found = runner.outputs["o"][0].copy()
        graphs.close()
    return found


def _plan() -> Plan:
    zeros = np.zeros((1, KV_HEADS, HEAD_DIM), np.float32)
    scale = np.full((1, KV_HEADS), _KEY_STEP, np.float32)
    return Plan.uniform(num_heads=HEADS, centre=zeros, scale=scale, k_variance=zeros + 1, estimate_multiplier=1.0)


def _oracle(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    return shadow_attention(Chunk(q, k, v, _plan(), HEAD_DIM**-0.5), _RULE).out
