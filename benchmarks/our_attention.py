"""ShadowSparseAttention alone in LiteRT: the op, its delegate and a bundle's plan, fed chunk by chunk as the runtime
does. Quantising, appending to the cache, estimate, selection and residual compensation are all inside the time."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Never

import numpy as np
from attention_kernel import INT8, LOSSY, SPARSE, STORED, Kernel, OpStats, Task
from recorded import Rows

from shadowattn.converter.custom_ops import fused_attention
from shadowattn.converter.flatbuffer import ModelFile, Subgraph
from shadowattn.converter.recipes import parse_recipe
from shadowattn.models.bundle import MODEL, Manifest, TensorInfo
from shadowattn.models.plan import FILE_NAME as PLAN
from shadowattn.models.plan import Plan
from shadowattn.models.spec import ModelSpec
from shadowattn.runtime.evaluate.options import Variant
from shadowattn.runtime.executor.chunking import Chunk, plan_chunks
from shadowattn.runtime.litert.delegate import ShadowDelegate, ShadowLibrary, library_path
from shadowattn.runtime.litert.interpreter import GraphRunner, GraphSet, delegate_pointer, load_delegate
from shadowattn.runtime.session.settings import parse_settings

_EXACTNESS = {"dense": STORED, "int8": INT8, "block_sparse": LOSSY, "npu_full": LOSSY}  # others: SPARSE
_OTHER_ESTIMATES = ("dense", "float_estimate", "block_sparse")  # none, float32, means of pages


@dataclasses.dataclass(frozen=True)
class OpSetting:
    """What all modes of one op share. folder: where its model file and plan go."""

    folder: Path
    num_threads: int
    isa: str
    max_length: int


class LoneOp:
    """One layer's op in an interpreter of its own, with the bundle's chunk lengths and the layer's part of its plan."""

    def __init__(self, manifest: Manifest, plan: Plan, layer: int, setting: OpSetting) -> None:
        """Raises ValueError as the delegate does."""
        self.ladder = manifest.prefill_chunks
        self.max_length = setting.max_length
        setting.folder.mkdir(parents=True, exist_ok=True)
        (setting.folder / PLAN).write_bytes(plan_of_layer(plan, layer).to_bytes())
        _write_model(setting.folder / MODEL, manifest.model, sorted({1, *self.ladder}))
        options = {
            "plan": setting.folder / PLAN,
            "num_threads": setting.num_threads,
            "isa": setting.isa,
            "max_length": setting.max_length,
        }
        self._plugin = load_delegate(library_path(), options)
        self.shadow = ShadowDelegate(ShadowLibrary(library_path()), delegate_pointer(self._plugin))
        self._graphs = GraphSet(setting.folder / MODEL, self._plugin, setting.num_threads)
        for chunk in sorted({1, *self.ladder}):
            self.runner(chunk)

    def runner(self, chunk: int) -> GraphRunner:
        """The prepared graph of T = chunk rows."""
        return self._graphs.runner(_signature(chunk))

    def close(self) -> None:
        """Interpreter first, then the delegate it uses."""
        self._graphs.close()
        del self._plugin


class OurKernel:
    """The op in one mode: a cache of its own in a LoneOp."""

    ours = True

    def __init__(self, op: LoneOp, variant: Variant) -> None:
        self.name = f"ours, {variant.name}"
        self.exactness = _EXACTNESS.get(variant.mode, SPARSE)
        chosen = {name: value for name, value in variant.session_options().items() if value is not None}
        settings = parse_settings(op.shadow.cache_defaults).changed(max_length=op.max_length, **chosen)
        self._op = op
        self.cache = op.shadow.create_cache(settings.creation_text())
        self.scores_int8 = variant.mode not in _OTHER_ESTIMATES

    def prefill(self, rows: Rows) -> Task:
        return _OurTask(self._op, self, rows, 0)

    def decode(self, rows: Rows, steps: int) -> Task:
        return _OurTask(self._op, self, rows, steps)


class _OurTask:
    """Runs on the kernel's cache. The invokes are timed: rows get into the op's inputs before, and out of its output
    after, because in a bundle the linear layers write and read those tensors themselves."""

    def __init__(self, op: LoneOp, kernel: OurKernel, rows: Rows, steps: int) -> None:
        self._op = op
        self._kernel = kernel
        self._cache = kernel.cache
        self._rows = rows
        self._steps = steps
        self._done = 0  # rows in the cache
        self._output = np.zeros(rows.q.shape if not steps else (1, *rows.q.shape[1:]), np.float32)
        if steps:
            self._advance(len(rows.q) - steps, keep=False)

    def run(self) -> float:
        if self._steps:
            return self._advance(1, keep=True)
        self._done = 0
        return self._advance(len(self._rows.q), keep=True)

    def output(self) -> np.ndarray:
        return self._output

    def take_stats(self) -> OpStats:
        stats = self._op.shadow.cache_stats(self._cache)
        self._op.shadow.reset_cache_stats(self._cache)
        share = stats.value_rows_read / stats.causal_rows if stats.causal_rows else 1.0
        return OpStats(stats.seconds, share, self._kernel.scores_int8)

    def _advance(self, count: int, keep: bool) -> float:
        """Seconds of the next `count` rows; keep: their outputs are wanted."""
        seconds, start = 0.0, self._done
        for chunk in plan_chunks(count, self._op.ladder):
            seconds += self._invoke(chunk)
            if keep:
                got = self._op.runner(chunk.length).outputs["o"][0, : chunk.n_valid]
                at = self._done - start
                self._output[at : at + chunk.n_valid] = got.reshape(chunk.n_valid, *self._output.shape[1:])
            self._done += chunk.n_valid
        return seconds

    def _invoke(self, chunk: Chunk) -> float:
        runner = self._op.runner(chunk.length)
        inputs = runner.inputs
        for name in ("q", "k", "v"):
            source = getattr(self._rows, name)
            inputs[name][0, : chunk.n_valid] = source[self._done : self._done + chunk.n_valid]
        for name, number in (("position", self._done), ("n_valid", chunk.n_valid), ("cache", self._cache)):
            inputs[name][0] = number
        begin = time.perf_counter()
        runner.invoke()
        return time.perf_counter() - begin


def our_kernels(op: LoneOp, variants: Sequence[Variant]) -> list[Kernel]:
    return [OurKernel(op, variant) for variant in variants]


def plan_of_layer(plan: Plan, layer: int) -> Plan:
    """The plan of a model that has this layer alone: an op of layer 0 of 1 then finds that layer's scales and factors.
    (Layer 5 of 30 cannot run alone: layer 0 of a chunk begins it.)"""
    per_layer = {
        field.name: value[layer : layer + 1].copy()
        for field in dataclasses.fields(Plan)
        if isinstance(value := getattr(plan, field.name), np.ndarray)
    }
    return dataclasses.replace(plan, **per_layer)  # type: ignore[arg-type]


def _signature(chunk: int) -> str:
    return "decode" if chunk == 1 else f"prefill_{chunk}"


def _write_model(path: Path, spec: ModelSpec, chunks: Sequence[int]) -> None:
    """A .tflite file whose signatures hold the fused op alone, as layer 0 of 1."""
    alone = dataclasses.replace(spec, num_layers=1)
    model = ModelFile(parse_recipe("float32"), _no_weight)
    number = TensorInfo("int32", (1,))
    for chunk in chunks:
        narrow = TensorInfo("float32", (1, chunk, spec.num_kv_heads, spec.head_dim))
        wide = TensorInfo("float32", (1, chunk, spec.num_heads, spec.head_dim))
        inputs = {"q": wide, "k": narrow, "v": narrow, "position": number, "n_valid": number, "cache": number}
        graph = Subgraph(model, _signature(chunk), inputs)
        flat = TensorInfo("float32", (1, chunk, spec.num_heads * spec.head_dim))
        graph.finish({"o": fused_attention(graph, alone, 0, graph.inputs, flat)})
    model.write(path, lambda _done, _total: None)


def _no_weight(name: str) -> Never:
    raise AssertionError(f"an op alone has no weight {name}")
