"""The split form: linear graphs in LiteRT, and between them append, estimate, select and attend by head group.

The estimates of the next groups run on a worker of their own (an NPU, or a core with LiteRT's INT8 kernels) while this
thread selects and attends. Decoding launches no graph: for one row a launch costs more than the estimate inside the op.
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from shadowattn.runtime.executor.engine import Engine
from shadowattn.runtime.executor.fused import Step, StepResult, fill_tokens, read_result
from shadowattn.runtime.executor.stages import EstimateInputs, HeadScores, Rows, Scales, Stages
from shadowattn.runtime.litert.interpreter import GraphRunner
from shadowattn.runtime.npu.graphs import EstimateRow
from shadowattn.runtime.pipeline.clock import Clock
from shadowattn.runtime.pipeline.groups import GroupPlanner
from shadowattn.runtime.pipeline.launches import Launches
from shadowattn.runtime.pipeline.options import OFF, PipelineOptions
from shadowattn.runtime.pipeline.overlap import Overlapped, Runs, in_turn
from shadowattn.runtime.pipeline.record import ChunkRecord, PipelineRecord
from shadowattn.runtime.scheduling.plan_cache import PlanCache
from shadowattn.runtime.scheduling.profiled import Shape
from shadowattn.runtime.scheduling.schedule import Schedule
from shadowattn.runtime.session.settings import CacheSettings

# Is shown layer, q [n_valid,H,d], k and v [n_valid,N_kv,d] of every chunk: views, to be copied if they are to last.
Watcher = Callable[[int, np.ndarray, np.ndarray, np.ndarray], None]


class PipelinedExecutor:
    """Per layer: linear -> append -> estimate, select and attend of every head group, and linear again. Copies residual
    from graph to graph and q_i8, k_i8 into the estimate graphs; the estimate runs only where its scores decide."""

    def __init__(self, engine: Engine, options: PipelineOptions) -> None:
        """Raises ValueError if the bundle has no split graphs, or lacks what the options ask for."""
        model = engine.manifest.model
        if not any(graph.role == "linear" for graph in engine.manifest.graphs):
            raise ValueError("the bundle has no split graphs for the pipelined executor; use executor='fused'")
        self._engine = engine
        self._options = options
        self.has_grid = engine.plan.grid is not None
        options.scales_for("shadow", self.has_grid)
        self._stages = Stages(engine.shadow, model)
        self._estimator = engine.estimator(options.npu)
        self._inputs: EstimateInputs | None = None
        self._launched: list[Schedule] = []  # of this chunk
        # Host INT8 has a core of its own, so with two threads the other is all that is left to attend with.
        on_host = options.npu.on_host
        self._may_share = not on_host or engine.num_threads > 2
        overlaps = options.planner != OFF and not (on_host and engine.num_threads == 1)
        self._slots = min(options.depth, model.num_heads) if overlaps else 1  # a launch has a head at least
        self._groups = GroupPlanner(model, self._estimator.keys, options, self._slots)
        self._runs: Runs = Overlapped(self._slots, options.npu.name) if overlaps else in_turn
        self.clock = Clock()
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

    @property
    def engine(self) -> Engine:
        """Whose graphs it runs."""
        return self._engine

    @property
    def npu_name(self) -> str:
        """Who was asked to run the estimates, for tables: host INT8, or a delegate."""
        return self._options.npu.name

    @property
    def seconds(self) -> defaultdict[str, float]:
        return self.clock.seconds

    @property
    def overlaps(self) -> bool:
        """Whether estimates run beside select and attend: not if they are off, or on the host with a single thread."""
        return self._runs is not in_turn

    @property
    def depth(self) -> int:
        """Estimate buffers in use; 1: nothing overlaps."""
        return self._slots

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """Those of the latest chunk's layers, in their order; none if it launched nothing."""
        return tuple(self._launched)

    @property
    def plans(self) -> PlanCache:
        """The schedules made so far, and what making them took."""
        return self._groups.plans

    def delegation(self) -> list[EstimateRow]:
        """What runs each estimate graph that was prepared, for all sessions of the engine with this npu."""
        return self._estimator.report()

    def launch_sizes(self, chunk: int, seq_len: int) -> tuple[int, ...]:
        """Numbers of heads that its launches may have, ascending."""
        return self._groups.counts(chunk, seq_len)

    def prepare(self, length: int, end: int, settings: CacheSettings) -> None:
        """Of the grid's graphs none: which will be needed is known when a chunk's scales are."""
        self._open_linear(length)
        scales = self._options.scales_for(settings.mode, self.has_grid)
        if self._launches(length, end, settings) and scales == Scales.RANK:
            seq_len = choose_bucket(self._engine.manifest.seq_lens, end)
            inputs = EstimateInputs(self._engine.manifest.model, length, seq_len)
            schedule = self._groups.schedule(Shape(length, seq_len, end), inputs.buckets)
            self._launches_of(inputs, schedule, end).prepare(self._slots)

    def is_open(self, length: int) -> bool:
        return self._engine.is_open(f"linear_0_{length}")

    def run(self, step: Step) -> StepResult:
        self._open_linear(step.length)
        before = dict(self.seconds)
        self._launched.clear()
        self.record.begin()
        with self.clock.span("total", "graph", chunk=step.length, position=step.position):
            result = self._run(step)
        self._note(step, before)
        return result

    def _run(self, step: Step) -> StepResult:
        linear = self._linear(0, step)
        fill_tokens(linear.inputs["tokens"], step.tokens)
        for layer in range(self._engine.manifest.model.num_layers):
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
        inputs = self._inputs_of(step) if self._launches(step.length, step.end, step.settings) else None
        scales = self._options.scales_for(step.settings.mode, self.has_grid)
        with self.clock.span("append", layer=layer):
            self._stages.append(rows, inputs, scales)
        if inputs is None:
            every = HeadScores(0, self._engine.manifest.model.num_heads)
            with self.clock.span("attend", layer=layer):
                self._stages.attend(rows, every, out)
            return
        self.record.took(layer, inputs)
        self._run_groups(rows, inputs, out, step)

    def _run_groups(self, rows: Rows, inputs: EstimateInputs, out: np.ndarray, step: Step) -> None:
        schedule = self._groups.schedule(Shape(step.length, inputs.seq_len, step.end), inputs.buckets)
        launches = self._launches_of(inputs, schedule, step.end)
        launches.prepare(self._slots)
        self._launched.append(schedule)

        def about(group: int) -> dict[str, Any]:
            return {"layer": rows.layer, "group": group, "heads": list(schedule.groups[group].heads)}

        def estimate(group: int, slot: int) -> None:
            graph = launches.key(group).name
            with self.clock.span("estimate", "graph", worker=self._options.npu.name, graph=graph, **about(group)):
                launches.run(group, slot, self._options.launch_ms / 1000)

        def attend(group: int, slot: int) -> None:
            with self.clock.span("attend", **about(group)):
                for heads in launches.scores(group, slot, self._may_share):
                    self._stages.attend(rows, heads, out)

        with self.clock.span("groups", layer=rows.layer):
            self._runs(len(schedule.groups), estimate, attend, self.clock)
        self.copied_bytes += launches.copied_bytes

    def _note(self, step: Step, before: Mapping[str, float]) -> None:
        """A chunk is done: what its groups took."""
        schedules = self._launched
        if not schedules:
            return
        took = {stage: self.seconds[stage] - before.get(stage, 0.0) for stage in ("groups", "estimate", "attend")}
        predicts = self._groups.predicts(step.length)
        predicted = sum(schedule.makespan for schedule in schedules) if predicts else None
        self.record.finish(
            ChunkRecord(
                chunk=step.length,
                seq_len=choose_bucket(self._engine.manifest.seq_lens, step.end),
                kv_len=step.end,
                launches=sum(len(schedule.groups) for schedule in schedules),
                predicted=predicted,
                measured=took["groups"],
                estimate=took["estimate"],
                attend=took["attend"],
            )
        )

    def _inputs_of(self, step: Step) -> EstimateInputs:
        """The buffers of that chunk length and bucket, which the next layer uses again."""
        seq_len = choose_bucket(self._engine.manifest.seq_lens, step.end)
        if self._inputs is None or (self._inputs.q_i8.shape[1], self._inputs.seq_len) != (step.length, seq_len):
            self._inputs = EstimateInputs(self._engine.manifest.model, step.length, seq_len)
        return self._inputs

    @staticmethod
    def _launches(length: int, end: int, settings: CacheSettings) -> bool:
        """Whether estimate graphs are run: for one row a launch costs more than the estimate inside the op."""
        return length > 1 and settings.reads_scores(end)

    def _launches_of(self, inputs: EstimateInputs, schedule: Schedule, kv_len: int) -> Launches:
        return Launches(self._estimator, self._engine.manifest.model, inputs, schedule.groups, kv_len)

    def _open_linear(self, length: int) -> None:
        for layer in range(self._engine.manifest.model.num_layers + 1):
            self._engine.runner(f"linear_{layer}_{length}")

    def _linear(self, layer: int, step: Step) -> GraphRunner:
        return self._engine.runner(f"linear_{layer}_{step.length}")


def choose_bucket(seq_lens: tuple[int, ...], kv_len: int) -> int:
    """The smallest bucket S that holds kv_len rows. Raises ValueError."""
    for seq_len in seq_lens:
        if seq_len >= kv_len:
            return seq_len
    raise ValueError(f"no bucket holds {kv_len} positions, the bundle's are {seq_lens}; convert with a larger length")
