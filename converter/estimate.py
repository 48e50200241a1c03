"""The INT8 estimate graphs: one static BATCH_MATMUL, q_i8 [units,rows,d] x k_i8 [units,S,d]^T -> scores_i8.

No mask, no softmax, no top-k: softmax keeps the order, and the causal mask is applied by select. Written straight as a
flatbuffer, so that the scales are exact to the bit; estimates.zip holds a file of each (models/estimate_graphs.py).
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Never

from ai_edge_litert import schema_py_generated as schema

from shadowattn.converter.flatbuffer import ModelFile, OpCode, Options, Subgraph
from shadowattn.converter.recipes import parse_recipe
from shadowattn.models.bundle import TensorInfo
from shadowattn.models.estimate_graphs import RANK_INVARIANT, EstimateKey
from shadowattn.models.plan import Plan
from shadowattn.models.spec import ModelSpec

_BATCH_MATMUL = OpCode(schema.BuiltinOperator.BATCH_MATMUL, 2)
_FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # that zip knows
_EXPECTED_BYTES = 2048


def write_estimates(path: Path, spec: ModelSpec, keys: Sequence[EstimateKey], plan: Plan) -> None:
    """estimates.zip: the same graphs and scales give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for key in keys:
            entry = zipfile.ZipInfo(f"{key.name}.tflite", _FIRST_DATE)
            entry.create_system = 3  # whatever the system that writes
            archive.writestr(entry, estimate_file(spec, key, bucket_scales(plan, key.bucket)))


def estimate_file(spec: ModelSpec, key: EstimateKey, scales: tuple[float, float, float]) -> memoryview:
    """A .tflite file of one graph, key.name, with the scales of q_i8, k_i8 and scores_i8."""
    q_i8, k_i8, scores_i8 = (TensorInfo("int8", shape) for shape in key.shapes(spec))
    model = ModelFile(parse_recipe("float32"), _no_weights)
    graph = Subgraph(model, key.name, {"q_i8": q_i8, "k_i8": k_i8}, {"q_i8": scales[0], "k_i8": scales[1]})
    scores = graph.tensor("scores_i8", scores_i8, scales[2])
    options = schema.BatchMatMulOptionsT()
    options.adjX, options.adjY, options.asymmetricQuantizeInputs = False, True, False
    table = Options(schema.BuiltinOptions.BatchMatMulOptions, options)
    graph.operator(_BATCH_MATMUL, list(graph.inputs.values()), [scores], table)
    graph.finish({"scores_i8": scores})
    return model.pack(lambda *_: None, _EXPECTED_BYTES)


def bucket_scales(plan: Plan, bucket: int) -> tuple[float, float, float]:
    """Scales of q_i8, k_i8 and scores_i8."""
    if bucket == RANK_INVARIANT:  # the graph computes round(acc * multiplier)
        return 1.0, 1.0, 1.0 / plan.estimate_multiplier
    assert plan.grid is not None, "keys of a plan without a grid are rank-invariant"
    i, j = plan.grid.pair(bucket)
    return float(plan.grid.q_scales[i]), float(plan.grid.k_scales[j]), float(plan.grid.score_scales[i, j])


def _no_weights(name: str) -> Never:
    raise AssertionError(f"an estimate graph has no weight {name}")
