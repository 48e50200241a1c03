"""The pipelined executor: linear graphs in LiteRT, and between them append, estimate, select and attend by head group.

The estimates of the next groups run on a worker of their own (an NPU, or a core with LiteRT's INT8 kernels) while this
thread selects and attends. Decoding launches no graph: for one row a launch costs more than the estimate inside the op.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from shadowattn.models.estimate_graphs import EstimateKey
from shadowattn.models.spec import ModelSpec
from shadowattn.runtime.executor.engine import Engine
from shadowattn.runtime.executor.fused import Step, StepResult, fill_tokens, read_result
from shadowattn.runtime.litert.interpreter import GraphRunner
from shadowattn.runtime.pipeline.estimates import Estimator
from shadowattn.runtime.pipeline.options import OFF, PipelineOptions
from shadowattn.runtime.pipeline.planner import LayerPlanner
from shadowattn.runtime.pipeline.record import ChunkRecord, Found, PipelineRecord
from shadowattn.runtime.pipeline.schedule import HeadGroup, Schedule, adjacent
from shadowattn.runtime.pipeline.stages import EstimateInputs, HeadScores, Rows, Scales, Stages
from shadowattn.runtime.pipeline.trace import Clock
from shadowattn.runtime.pipeline.workers import SLOTS, Overlapped, sequential
from shadowattn.runtime.session.settings import CacheSettings

# Is shown layer, q [n_valid,H,d], k and v [n_valid,N_kv,d] of every chunk: views, to be copied if they are to last.
Watcher = Callable[[int, np.ndarray, np.ndarray, np.ndarray], None]


class Launches:
    """The estimates of one layer and chunk: integers into each group's graph, and its scores out of it without a copy.
    keys: the graph of each group; copied_bytes: of q_i8 and k_i8, once for each launch that reads them."""

    def __init__(
        self, estimator: Estimator, model: ModelSpec, inputs: EstimateInputs, groups: Sequence[HeadGroup], kv_len: int
    ) -> None:
        self._estimator = estimator
        self._group_size = model.group_size
        self._inputs = inputs
        self._heads = [group.heads for group in groups]
        self._kv_len = kv_len
        self.keys = [EstimateKey(inputs.chunk, inputs.seq_len, len(own.heads), own.bucket) for own in groups]
        self._held: dict[tuple[EstimateKey, int], tuple[int, ...]] = {}  # KV heads whose keys a graph's input holds
        self.copied_bytes = 0

    def prepare(self, slots: int) -> None:
        """Opens the graphs that are not open yet: not a worker's time, and its warnings are raised here."""
        for key in dict.fromkeys(self.keys):
            for slot in range(min(slots, len(self.keys))):  # slots are taken in rotation
                self._estimator.runner(key, slot)

    def run(self, group: int, slot: int) -> None:
        """Fills the graph's inputs and invokes it. Raises RuntimeError."""
        key, heads = self.keys[group], self._heads[group]
        runner = self._estimator.runner(key, slot)
        q_i8 = runner.q_i8.reshape(len(heads), *self._inputs.q_i8.shape[1:])
        np.take(self._inputs.q_i8, heads, axis=0, out=q_i8, mode="clip")  # "raise" would copy it twice
        self.copied_bytes += q_i8.nbytes
        units = tuple(dict.fromkeys(head // self._group_size for head in heads))
        if self._held.get((key, slot)) != units:
            for place, unit in enumerate(units):  # rows beyond kv_len are never read
                np.copyto(runner.k_i8[place, : self._kv_len], self._inputs.k_i8[unit, : self._kv_len])
            self._held[key, slot] = units
            self.copied_bytes += len(units) * self._kv_len * runner.k_i8.shape[-1]
        runner.invoke()

    def scores(self, group: int, slot: int, may_share: bool) -> list[HeadScores]:
        """What run() left in that slot, as adjacent heads."""
        key, start, found = self.keys[group], 0, []
        every = self._estimator.runner(key, slot).scores_i8.reshape(key.heads, -1)
        for run in adjacent(self._heads[group]):
            part = every[start : start + len(run)]
            found.append(HeadScores(run[0], len(run), part, key.seq_len, key.bucket, may_share))
            start += len(run)
        return found


class PipelinedExecutor:
    """Per layer: linear -> append -> estimate, select and attend of every head group, and linear again. Copies residual
    from graph to graph and q_i8, k_i8 into the estimate graphs; the estimate runs only where its scores decide.

    clock: wall time by stage, `seconds`, and spans; record: of chunks; planner: of schedules; schedules: those of the
    latest chunk's layers, in their order; npu_name: who was asked to run the estimates; overlaps: whether they run
    beside select and attend: not if the planner is off, or on the host with a single thread; depth: estimate buffers.
    """

    def __init__(self, engine: Engine, options: PipelineOptions) -> None:
        """Raises ValueError if the bundle has no linear graphs, or lacks what the options ask for."""
        model = engine.manifest.model
        if not any(graph.role == "linear" for graph in engine.manifest.graphs):
            raise ValueError("the bundle has no linear graphs for the pipelined executor; use executor='fused'")
        self.engine = engine
        self.has_grid = engine.plan.grid is not None
        options.scales_for("shadow", self.has_grid)
        self._options = options
        self._model = model
        self.npu_name = options.npu.name
        self._stages = Stages(engine.shadow, model)
        self.estimator = engine.estimator(options.npu)
        self._inputs: EstimateInputs | None = None
        # Host INT8 has a core of its own, so with two threads the other is all that is left to attend with.
        on_host = options.npu.on_host
        self._may_share = not on_host or engine.num_threads > 2
        self.overlaps = options.planner != OFF and not (on_host and engine.num_threads == 1)
        self.depth = SLOTS if self.overlaps else 1
        self.planner = LayerPlanner(model, self.estimator.keys, options, self.depth)
        self.schedules: list[Schedule] = []
        self._found: list[Found] = []
        self._run_groups = Overlapped(options.npu.name) if self.overlaps else sequential
        self.clock = Clock()
        self.seconds = self.clock.seconds
        self.copied_bytes = 0
        self.watcher: Watcher | None = None
        self.record = PipelineRecord(model, 1 + (engine.plan.grid.count if engine.plan.grid else 0))

    @contextlib.contextmanager
    def watch(self, watcher: Watcher) -> Iterator[None]:
        """Within it, watcher(layer, q, k, v) is shown every chunk's q [n,H,d], k and v [n,N_kv,d], float32 views."""
        self.watcher = watcher
        try:
            yield
        finally:
            self.watcher = None

    def reset_stats(self) -> None:
        self.seconds.clear()
        self.copied_bytes = 0
        self.record.clear()

    def prepare(self, length: int, end: int, settings: CacheSettings) -> None:
        """Of the grid's graphs none: which will be needed is known when a chunk's scales are."""
        self._open_linear(length)
        scales = self._options.scales_for(settings.mode, self.has_grid)
        if _launches(length, end, settings) and scales == Scales.RANK:
            inputs = EstimateInputs(self._model, length, choose_bucket(self.engine.manifest.seq_lens, end))
            self._launches_of(inputs, end)[1].prepare(self.depth)

    def is_open(self, length: int) -> bool:
        return self.engine.is_open(f"linear_0_{length}")

    def run(self, step: Step) -> StepResult:
        self._open_linear(step.length)
        before = dict(self.seconds)
        self.schedules.clear()
        self._found.clear()  # of a chunk that failed too
        with self.clock.span("total", "graph", chunk=step.length, position=step.position):
            result = self._run(step)
        if self.schedules:
            self._finish(step, before)
        return result

    def _run(self, step: Step) -> StepResult:
        linear = self._linear(0, step)
        fill_tokens(linear.inputs["tokens"], step.tokens)
        for layer in range(self._model.num_layers):
            linear.inputs["position"][0] = step.position
            self._invoke(linear)
            following = self._linear(layer + 1, step)
            self._attention(layer, linear, following.inputs["o"], step)
            with self.clock.span("copy"):
                np.copyto(following.inputs["residual"], linear.outputs["residual"])
            self.copied_bytes += following.inputs["residual"].nbytes
            linear = following
        linear.inputs["n_valid"][0] = step.n_valid
        self._invoke(linear)
        return read_result(linear.outputs, step)

    def _invoke(self, linear: GraphRunner) -> None:
        with self.clock.span("linear", "graph", graph=linear.signature):
            linear.invoke()

    def _attention(self, layer: int, linear: GraphRunner, out: np.ndarray, step: Step) -> None:
        """q, k, v of a linear graph -> out [1,T,H*d], the next one's input."""
        q, k, v = (linear.outputs[name] for name in ("q", "k", "v"))
        if self.watcher is not None:
            self.watcher(layer, *(tensor[0, : step.n_valid] for tensor in (q, k, v)))
        rows = Rows(step.cache, layer, step.position, step.n_valid, q, k, v)
        inputs = self._inputs_of(step) if _launches(step.length, step.end, step.settings) else None
        scales = self._options.scales_for(step.settings.mode, self.has_grid)
        with self.clock.span("append", layer=layer):
            self._stages.append(rows, inputs, scales)
        if inputs is not None:
            self._found.append((inputs.buckets.copy(), inputs.clamped, inputs.outside))
            self._by_groups(rows, inputs, out, step.end)
            return
        with self.clock.span("attend", layer=layer):
            self._stages.attend(rows, HeadScores(0, self._model.num_heads), out)

    def _by_groups(self, rows: Rows, inputs: EstimateInputs, out: np.ndarray, end: int) -> None:
        schedule, launches = self._launches_of(inputs, end)
        launches.prepare(self.depth)
        self.schedules.append(schedule)

        def about(group: int) -> dict[str, Any]:
            return {"layer": rows.layer, "group": group, "heads": list(schedule.groups[group].heads)}

        def estimate(group: int, slot: int) -> None:
            graph = launches.keys[group].name
            with self.clock.span("estimate", "graph", self.npu_name, graph=graph, **about(group)):
                launches.run(group, slot)

        def attend(group: int, slot: int) -> None:
            with self.clock.span("attend", **about(group)):
                for heads in launches.scores(group, slot, self._may_share):
                    self._stages.attend(rows, heads, out)

        with self.clock.span("groups", layer=rows.layer):
            self._run_groups(len(schedule.groups), estimate, attend, self.clock)
        self.copied_bytes += launches.copied_bytes

    def _finish(self, step: Step, before: Mapping[str, float]) -> None:
        """A chunk is done: what its groups took."""
        took = (self.seconds[stage] - before.get(stage, 0.0) for stage in ("groups", "estimate", "attend"))
        launches = sum(len(schedule.groups) for schedule in self.schedules)
        makespan = sum(schedule.makespan for schedule in self.schedules)
        predicted = makespan if self.planner.predicts(step.length) else None
        shape = (step.length, choose_bucket(self.engine.manifest.seq_lens, step.end), step.end)
        self.record.add(ChunkRecord(*shape, launches, predicted, *took), self._found)

    def _inputs_of(self, step: Step) -> EstimateInputs:
        """The buffers of that chunk length and bucket, which the next layer uses again."""
        seq_len = choose_bucket(self.engine.manifest.seq_lens, step.end)
        if self._inputs is None or (self._inputs.chunk, self._inputs.seq_len) != (step.length, seq_len):
            self._inputs = EstimateInputs(self._model, step.length, seq_len)
        return self._inputs

    def _launches_of(self, inputs: EstimateInputs, kv_len: int) -> tuple[Schedule, Launches]:
        schedule = self.planner.schedule(inputs.chunk, inputs.seq_len, kv_len, inputs.buckets)
        return schedule, Launches(self.estimator, self._model, inputs, schedule.groups, kv_len)

    def _open_linear(self, length: int) -> None:
        for layer in range(self._model.num_layers + 1):
            self.engine.runner(f"linear_{layer}_{length}")

    def _linear(self, layer: int, step: Step) -> GraphRunner:
        return self.engine.runner(f"linear_{layer}_{step.length}")


def _launches(length: int, end: int, settings: CacheSettings) -> bool:
    """Whether estimate graphs are run: for one row a launch costs more than the estimate inside the op."""
    return length > 1 and settings.reads_scores(end)


def choose_bucket(seq_lens: tuple[int, ...], kv_len: int) -> int:
    """The smallest bucket S that holds kv_len rows. Raises ValueError."""
    fitting = [seq_len for seq_len in seq_lens if seq_len >= kv_len]
    if not fitting:
        raise ValueError(
            f"no bucket holds {kv_len} positions, the bundle's are {seq_lens}; convert with a larger length"
        )
    return min(fitting)
