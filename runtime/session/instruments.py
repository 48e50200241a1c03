"""What calibration, evaluation and the pipeline's tools need of a session, and who only wants answers does not."""

import numpy as np

from shadowattn.runtime.executor.engine import NodeRow
from shadowattn.runtime.pipeline.executor import PipelinedExecutor
from shadowattn.runtime.pipeline.options import PipelineOptions
from shadowattn.runtime.session.cached_tokens import CachedTokens
from shadowattn.runtime.session.observing import HEADS, HeadStats, SessionObserver


class Instruments:
    """The part of a Session that looks into its cache and executor, or exchanges them."""

    _cached: CachedTokens

    @property
    def pipelined(self) -> PipelinedExecutor:
        """The executor that runs head groups: its options, record and trace. Raises ValueError if it is another."""
        if not isinstance(self._cached.executor, PipelinedExecutor):
            raise ValueError("the session runs fused graphs; open it with executor='pipelined'")
        return self._cached.executor

    def make_pipeline(self, options: PipelineOptions) -> PipelinedExecutor:
        """Another way to run head groups, for use_pipeline(). Raises ValueError."""
        self._cached.check_open()
        with self._cached.engine.lock:
            return PipelinedExecutor(self._cached.engine, options)

    def use_pipeline(self, executor: PipelinedExecutor) -> None:
        """The next chunks run so; what is in the cache stays. executor: of make_pipeline(), of this session or another
        on the same engine. Raises ValueError for others, and for a session of fused graphs."""
        if self.pipelined.engine is not executor.engine:
            raise ValueError(
                "the executor runs another bundle's graphs, or with other threads or ISA; make it with this "
                "session's make_pipeline()"
            )
        self._cached.executor = executor

    def set_factors(self, factors: np.ndarray | None) -> None:
        """Factors [layers, heads] of the heads' thresholds in mode shadow instead of the plan's (0: a head attends
        to all, inf: it puts out zeros); None: the plan's again. Raises ValueError."""
        self._cached.check_open()
        with self._cached.alone, self._cached.engine.lock:
            self._cached.engine.shadow.set_factors(self._cached.handle, factors)
        self._cached.computed_with = None

    @property
    def observer(self) -> SessionObserver:
        """What can be watched of the rows to come; nothing is, until it is told."""
        self._cached.check_open()
        return SessionObserver(self._cached.engine, self._cached.handle)

    def observe_heads(self, on: bool = True) -> None:
        """Watches what head_stats() tells, from nothing: it costs time. Ends other observations."""
        self.observer.observe(*([HEADS] if on else []))

    def head_stats(self) -> HeadStats:
        """How much each head selects and finds, since observe_heads() or reset_stats()."""
        return self.observer.head_stats()

    def node_assignments(self) -> list[NodeRow]:
        """(signature, node index, op, runner) of every node of the signatures that were prepared, for all sessions of
        the engine. runner: shadow, xnnpack or litert builtin. A Shadow op not run by us raises at first use, a matrix
        product outside XNNPACK warns."""
        self._cached.check_open()
        return self._cached.engine.node_assignments()
