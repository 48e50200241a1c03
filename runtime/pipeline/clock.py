"""Wall time by stage, and of every span where a trace is kept."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from shadowattn.runtime.tracing.trace import Kind, Span, Trace

CPU = "cpu"  # runs linear graphs, selects and attends


class Clock:
    """seconds: by stage, for ever; trace: None for none. Each stage belongs to one thread."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.trace: Trace | None = None

    @contextlib.contextmanager
    def span(self, stage: str, kind: Kind = "op", worker: str = CPU, **args: Any) -> Iterator[None]:
        """Adds the block's time to the stage's."""
        start = time.perf_counter()
        try:
            yield
        finally:
            end = time.perf_counter()
            self.seconds[stage] += end - start
            if self.trace is not None:
                self.trace.add(Span(kind, stage, worker, start, end, args))
