"""The split form: linear graphs, ShadowKvAppend, INT8 estimate graphs and ShadowSparseAttention, one after the other.

They do not overlap yet; their order, their data and the copies between them are what a schedule will move.
"""

import contextlib
import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np

from shadowattn.runtime.engine import Engine
from shadowattn.runtime.executor import Step, StepResult, fill_tokens, read_result
from shadowattn.runtime.litert import GraphRunner

# Is shown layer, q [n_valid,H,d], k and v [n_valid,N_kv,d] of every chunk: views, to be copied if they are to last.
Watcher = Callable[[int, np.ndarray, np.ndarray, np.ndarray], None]


@dataclasses.dataclass(frozen=True)
class _Bucket:
    """The graphs of one chunk length and one bucket."""

    append: GraphRunner
    estimate: GraphRunner
    attend: GraphRunner


class PipelinedExecutor:
    """Per layer: linear -> append -> estimate -> attend, and linear again. Copies q, k, v, o, residual, q_i8, k_i8 and
    scores_i8 once each from output to input; the estimate runs only where its scores decide something."""

    def __init__(self, engine: Engine) -> None:
        """Raises ValueError if the bundle has no split graphs."""
        self._engine = engine
        self._num_layers = engine.manifest.model.num_layers
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.copied_bytes = 0
        self.watcher: Watcher | None = None
        if not any(graph.role == "linear" for graph in engine.manifest.graphs):
            raise ValueError("the bundle has no split graphs for the pipelined executor; use executor='fused'")

    def prepare(self, length: int, end: int) -> None:
        for layer in range(self._num_layers + 1):
            self._engine.runner(f"linear_{layer}_{length}")
        self._bucket(length, end)

    def is_open(self, length: int) -> bool:
        return self._engine.is_open(f"linear_0_{length}")

    def run(self, step: Step) -> StepResult:
        start = time.perf_counter()
        bucket = self._bucket(step.length, step.end)
        linear = self._linear(0, step)
        fill_tokens(linear.inputs["tokens"], step.tokens)
        for layer in range(self._num_layers):
            linear.inputs["position"][0] = step.position
            with self._timed("linear"):
                linear.invoke()
            self._attention(layer, linear, bucket, step)
            following = self._linear(layer + 1, step)
            self._copy(following.inputs["o"], bucket.attend.outputs["o"])
            self._copy(following.inputs["residual"], linear.outputs["residual"])
            linear = following
        linear.inputs["n_valid"][0] = step.n_valid
        with self._timed("linear"):
            linear.invoke()
        result = read_result(linear.outputs, step)
        self.seconds["total"] += time.perf_counter() - start
        return result

    def _attention(self, layer: int, linear: GraphRunner, bucket: _Bucket, step: Step) -> None:
        """q, k, v of a linear graph -> o of the bucket's attend graph."""
        numbers = {"position": step.position, "n_valid": step.n_valid, "cache": step.cache, "layer": layer}
        if self.watcher is not None:
            self.watcher(layer, *(linear.outputs[name][0, : step.n_valid] for name in ("q", "k", "v")))
        for name in ("q", "k", "v"):
            self._copy(bucket.append.inputs[name], linear.outputs[name])
        _set_numbers(bucket.append, numbers)
        with self._timed("append"):
            bucket.append.invoke()
        if step.settings.reads_scores(step.end):
            for name in ("q_i8", "k_i8"):
                self._copy(bucket.estimate.inputs[name], bucket.append.outputs[name])
            with self._timed("estimate"):
                bucket.estimate.invoke()
            self._copy(bucket.attend.inputs["scores_i8"], bucket.estimate.outputs["scores_i8"])
        self._copy(bucket.attend.inputs["q"], linear.outputs["q"])
        _set_numbers(bucket.attend, numbers | {"kv_len": int(bucket.append.outputs["kv_len"][0])})
        with self._timed("attend"):
            bucket.attend.invoke()

    def _linear(self, layer: int, step: Step) -> GraphRunner:
        return self._engine.runner(f"linear_{layer}_{step.length}")

    def _bucket(self, length: int, end: int) -> _Bucket:
        seq_len = choose_bucket(self._engine.manifest.seq_lens, end)
        names = (f"{role}_{length}_{seq_len}" for role in ("kv_append", "estimate", "attend"))
        return _Bucket(*(self._engine.runner(name) for name in names))

    def _copy(self, target: np.ndarray, source: np.ndarray) -> None:
        with self._timed("copy"):
            np.copyto(target, source)
        self.copied_bytes += source.nbytes

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start


def choose_bucket(seq_lens: tuple[int, ...], kv_len: int) -> int:
    """The smallest bucket S that holds kv_len rows. Raises ValueError."""
    for seq_len in seq_lens:
        if seq_len >= kv_len:
            return seq_len
    raise ValueError(f"no bucket holds {kv_len} positions, the bundle's are {seq_lens}; convert with a larger length")


def _set_numbers(runner: GraphRunner, numbers: dict[str, int]) -> None:
    for name, value in numbers.items():
        runner.inputs[name][0] = value
