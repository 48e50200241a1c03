"""Estimate graphs of a small model for the tests: files, the zip, and the NumPy oracle."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from flat_graph import FlatModel

from shadowattn.models.estimate_graphs import FILE_NAME, EstimateKey
from shadowattn.models.spec import ModelSpec, RopeSpec

MODEL = ModelSpec("llama", 97, 72, 64, 1, 6, 2, 12, 1e-5, RopeSpec(1e4), 256, True)  # 6 heads, 2 KV heads, d 12
SCALE_Q, SCALE_K, SCALE_SCORES = 0.0123, 0.0231, 0.0345
MULTIPLIER = float(np.float32(SCALE_Q) * np.float32(SCALE_K) / np.float32(SCALE_SCORES))
KEY = EstimateKey(5, 32, 3)  # q_i8 [1,15,12], k_i8 [1,32,12]
TINY_KEY = EstimateKey(1, 7, 1)
WIDE_KEY = EstimateKey(5, 33, 6)  # two units
ODD_KEYS = [KEY, TINY_KEY, WIDE_KEY, EstimateKey(3, 61, 2)]


def estimate_file(
    key: EstimateKey, model: ModelSpec = MODEL, q_name: str = "q_i8", dtype: str = "int8", **scales: float
) -> bytes:
    """The .tflite of one graph: a single node."""
    flat, graph, (q, k, shape) = _begin(key, model, scales, q_name, dtype)
    scores = graph.op("BATCH_MATMUL", [q, k], shape, dtype, adjY=True, scale=scales.get("scores", SCALE_SCORES))
    graph.finish({"scores_i8": scores})
    return flat.to_bytes()


def two_node_file(key: EstimateKey) -> bytes:
    """The same result by two nodes: node 0 multiplies q by 127 times the identity and keeps its scale."""
    flat, graph, (q, k, shape) = _begin(key, MODEL, {})
    units, _, d = key.shapes(MODEL)[0]
    eye = np.broadcast_to(127 * np.eye(d, dtype=np.int8), (units, d, d))
    identity = graph.constant("identity", np.ascontiguousarray(eye), scale=1 / 127)
    same = graph.op("BATCH_MATMUL", [q, identity], key.shapes(MODEL)[0], "int8", adjY=True, scale=SCALE_Q)
    graph.finish({"scores_i8": graph.op("BATCH_MATMUL", [same, k], shape, "int8", adjY=True, scale=SCALE_SCORES)})
    return flat.to_bytes()


def custom_file(key: EstimateKey) -> bytes:
    """What ahead-of-time compilation leaves: one custom op that only a vendor's delegate knows."""
    flat, graph, (q, k, shape) = _begin(key, MODEL, {})
    (scores,) = graph.custom("DISPATCH_OP", [q, k], [(shape, "int8", SCALE_SCORES)], b"blob")
    graph.finish({"scores_i8": scores})
    return flat.to_bytes()


def write_archive(folder: Path, files: Mapping[str, bytes], name: str = FILE_NAME) -> Path:
    """files: names of graphs -> their bytes. Returns the zip's path."""
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_STORED) as archive:
        for graph, content in files.items():
            archive.writestr(f"{graph}.tflite", content)
    return folder / name


def random_inputs(key: EstimateKey, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """q_i8 and k_i8 of the whole range of INT8."""
    q_shape, k_shape, _ = key.shapes(MODEL)
    return rng.integers(-128, 128, q_shape).astype(np.int8), rng.integers(-128, 128, k_shape).astype(np.int8)


def oracle(q_i8: np.ndarray, k_i8: np.ndarray) -> np.ndarray:
    """clamp(rint(acc * m)): int32 sums, then one float32 product, ties to even."""
    acc = np.einsum("urd,usd->urs", q_i8.astype(np.int64), k_i8.astype(np.int64))
    scaled = np.rint(acc.astype(np.float32) * np.float32(MULTIPLIER))
    return np.clip(scaled, -128, 127).astype(np.int8)


def _begin(  # type: ignore[no-untyped-def]
    key: EstimateKey, model: ModelSpec, scales: Mapping[str, float], q_name: str = "q_i8", dtype: str = "int8"
):
    flat = FlatModel()
    graph = flat.graph(key.name)
    q_shape, k_shape, shape = key.shapes(model)
    q = graph.input(q_name, q_shape, dtype, scales.get("q", SCALE_Q))
    k = graph.input("k_i8", k_shape, dtype, scales.get("k", SCALE_K))
    return flat, graph, (q, k, shape)
