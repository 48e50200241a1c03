"""Records what the workers of a run do, and when."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

Kind = Literal["graph", "op", "wait"]


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """kind: one invoke of a graph, one op inside of it, or waiting; name: the stage; worker: the thread that ran it;
    start, end: seconds of time.perf_counter; args: what it worked on (`group`: index of a head group, ...)."""

    kind: Kind
    name: str
    worker: str
    start: float
    end: float
    args: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Trace:
    """Spans of all workers. Any thread may add: one list.append, which Python makes whole, is all that it costs. Who
    does not trace holds None instead of a Trace."""

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def add(self, span: Span) -> None:
        self._spans.append(span)

    @contextlib.contextmanager
    def span(self, kind: Kind, name: str, worker: str, **args: Any) -> Iterator[None]:
        """The time of a `with` block, recorded also when the block raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spans.append(Span(kind, name, worker, start, time.perf_counter(), args))

    def spans(self) -> Sequence[Span]:
        """Those added so far, ordered by start; of two that start together the longer one comes first."""
        return sorted(self._spans, key=lambda span: (span.start, -span.end))
