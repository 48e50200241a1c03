"""The estimate graphs of one bundle: opened and prepared when a prompt first needs them, on the chosen NPU or the host.

estimator = Estimator(NpuChoice.parse("delegate:libvendor.so?backend=htp"), bundle, model, {0: multiplier})
runner = estimator.runner(EstimateKey(256, 4096, 3), slot=0)
runner.q_i8[...], runner.k_i8[...] = q, k
runner.invoke()  # runner.scores_i8
"""

import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from shadowattn.models.estimate_graphs import FILE_NAME, EstimateKey
from shadowattn.models.spec import ModelSpec
from shadowattn.runtime.litert import interpreter as litert
from shadowattn.runtime.litert.nodes import Node
from shadowattn.runtime.npu.archive import EstimateArchive
from shadowattn.runtime.npu.choice import ExternalDelegate, NpuChoice
from shadowattn.runtime.npu.delegation import Delegation, judge
from shadowattn.runtime.npu.runner import EstimateRunner, EstimateTensors, RunnerSetup

_CONVERT_AGAIN = "convert the model again"
_COMPILE_AGAIN = "compile the graphs of the bundle's estimates.zip again"


class EstimateRow(NamedTuple):
    """One graph of Estimator.report(). slots: its interpreters, which prepare_ms, invokes and failures add up.
    delegated: taken, partly or not at all; None where host INT8 is what was asked for. on_host: the nodes that run as
    host INT8, and whose kernels run them."""

    graph: str
    slots: int
    nodes: int
    delegated: str | None
    on_host: str
    prepare_ms: float
    invokes: int
    failures: int


class EstimatorCounts(NamedTuple):
    """Since the Estimator was made. runners: interpreters; failures: invokes that ended in an error."""

    graphs: int
    runners: int
    invokes: int
    failures: int


class Estimator:
    """Prepares and keeps the runners of one choice. The delegate is loaded once, shared by all, and destroyed last.

    runner() may be called from any thread; a runner belongs to one thread at a time.
    """

    def __init__(
        self,
        choice: NpuChoice,
        bundle: Path,
        model: ModelSpec,
        multipliers: Mapping[int, float],
        num_threads: int = 1,
    ) -> None:
        """multipliers: bucket -> scale_q * scale_k / scale_scores of its graphs, the plan's. num_threads: of LiteRT's
        own kernels; 1, because the estimate has a core of its own.

        Raises ValueError: no graphs, or the delegate cannot be loaded or created.
        """
        if num_threads < 1:
            raise ValueError(f"estimate: num_threads must be at least 1, got {num_threads}")
        self.choice = choice
        self._model = model
        self._multipliers = dict(multipliers)
        self._lock = threading.RLock()
        self._runners: dict[tuple[EstimateKey, int], EstimateRunner] = {}
        self._warned: set[Delegation] = set()
        self._advice = _CONVERT_AGAIN if choice.blobs is None else _COMPILE_AGAIN
        start = time.perf_counter()
        delegate = None if choice.delegate is None else _load(choice.delegate)
        self._load_seconds = time.perf_counter() - start
        self._archive = EstimateArchive(choice.blobs or bundle / FILE_NAME, self._advice)
        self._setup = RunnerSetup(delegate, num_threads, choice.name, self._advice)
        # Also at exit, and when it was forgotten; the delegate follows with the last reference to it.
        self._closer = weakref.finalize(self, _close, self._runners, self._archive)

    @property
    def keys(self) -> list[EstimateKey]:
        """The graphs there are, in order."""
        return self._archive.keys

    @property
    def prepare_seconds(self) -> float:
        """Spent on creating the delegate and preparing graphs so far."""
        with self._lock:
            return self._load_seconds + sum(runner.prepare_seconds for runner in self._runners.values())

    @property
    def counts(self) -> EstimatorCounts:
        with self._lock:
            runners = list(self._runners.values())
        return EstimatorCounts(
            len({runner.key for runner in runners}),
            len(runners),
            sum(runner.invokes for runner in runners),
            sum(runner.failures for runner in runners),
        )

    def runner(self, key: EstimateKey, slot: int = 0) -> EstimateRunner:
        """The graph's runner number `slot`, prepared at first use; slots share no memory.

        Raises ValueError if the file lacks the graph or holds another one; RuntimeError if it cannot be prepared, or
        the choice requires the NPU and a node is left to the host. Warns (RuntimeWarning) of such nodes otherwise.
        """
        with self._lock:
            if not self._closer.alive:
                raise RuntimeError("this Estimator is closed; open a session again")
            if (key, slot) not in self._runners:
                self._runners[key, slot] = self._prepare(key)
            return self._runners[key, slot]

    def nodes(self) -> dict[str, Sequence[Node]]:
        """Nodes of every graph that was prepared, with who runs them."""
        with self._lock:
            return {runner.key.name: runner.delegation.nodes for runner in self._runners.values()}

    def report(self) -> list[EstimateRow]:
        """A row per graph and finding, for table.format_table(EstimateRow._fields, ...)."""
        with self._lock:
            found: dict[Delegation, list[EstimateRunner]] = {}
            for _, runner in sorted(self._runners.items(), key=lambda item: item[0]):
                found.setdefault(runner.delegation, []).append(runner)
        return [self._row(delegation, runners) for delegation, runners in found.items()]

    def close(self) -> None:
        """Interpreters first, then the delegate. A view that somebody still holds stays valid and keeps both."""
        with self._lock:
            self._closer()
            self._setup = RunnerSetup(None, 1, self._setup.called, self._setup.advice)

    def abandon(self) -> None:
        """In a forked child: nothing is ever destroyed, for the delegate's threads do not exist here."""
        self._lock = threading.RLock()  # the parent may have held the other
        self._closer.detach()
        litert.keep_for_ever(self._setup.delegate)
        for runner in self._runners.values():
            runner.keep_for_ever()

    def _prepare(self, key: EstimateKey) -> EstimateRunner:
        if key.bucket not in self._multipliers:
            known = ", ".join(map(str, sorted(self._multipliers)))
            raise ValueError(f"{key.name}: no scales are known for bucket {key.bucket}, only for {known}")
        shapes = dict(zip(("q_i8", "k_i8", "scores_i8"), key.shapes(self._model), strict=True))
        tensors = EstimateTensors(shapes, self._multipliers[key.bucket])
        runner = EstimateRunner(key, self._archive.read(key), tensors, self._setup)
        try:
            if runner.delegation not in self._warned:  # once per graph, not per slot
                judge(runner.delegation, self.choice)
        except BaseException:
            runner.close()
            raise
        self._warned.add(runner.delegation)
        return runner

    def _row(self, delegation: Delegation, runners: list[EstimateRunner]) -> EstimateRow:
        return EstimateRow(
            delegation.graph,
            len(runners),
            len(delegation.nodes),
            None if self.choice.on_host else delegation.extent.value,
            delegation.left_in_words(),
            sum(runner.prepare_seconds for runner in runners) * 1e3,
            sum(runner.invokes for runner in runners),
            sum(runner.failures for runner in runners),
        )


def _load(delegate: ExternalDelegate) -> Any:
    """Raises ValueError."""
    path = Path(delegate.library)
    if os.path.exists(path):  # unlike Path.exists(), False for a name that is too long
        return litert.load_delegate(path.resolve(), dict(delegate.options))
    if "/" in delegate.library:
        raise ValueError(f"{path}: there is no such file; give --npu=delegate:PATH the path of the delegate's library")
    return litert.load_delegate(delegate.library, dict(delegate.options))


def _close(runners: dict[tuple[EstimateKey, int], EstimateRunner], archive: EstimateArchive) -> None:
    for runner in runners.values():
        runner.close()
    archive.close()
