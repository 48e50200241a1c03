"""What the workers of a run do, and when: seconds by stage, spans where they are recorded, and a Perfetto file of them.

The file is Chrome trace-event JSON (the object form), which ui.perfetto.dev opens: complete events (ph X, ts and dur in
microseconds), and metadata events (ph M) that name the process and its threads.
"""

import contextlib
import dataclasses
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

CPU = "cpu"  # the worker that runs linear graphs, selects and attends
Kind = Literal["graph", "op", "wait"]


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """kind: one invoke of a graph, a call of the delegate, or waiting; name: the stage; worker: the thread that ran it;
    start, end: seconds of time.perf_counter; args: what it worked on (`group`: index of a head group, ...)."""

    kind: Kind
    name: str
    worker: str
    start: float
    end: float
    args: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Clock:
    """seconds: by stage, until they are cleared; spans: recorded while it is a list. Each stage belongs to one thread;
    any of them may add a span, for list.append is whole."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.spans: list[Span] | None = None

    @contextlib.contextmanager
    def span(self, stage: str, kind: Kind = "op", worker: str = CPU, **args: Any) -> Iterator[None]:
        """The time of the block, also when it raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            end = time.perf_counter()
            self.seconds[stage] += end - start
            if self.spans is not None:
                self.spans.append(Span(kind, stage, worker, start, end, args))

    @contextlib.contextmanager
    def recording(self) -> Iterator[list[Span]]:
        """The spans of the block, which may be read after it; also when it raises. Blocks may be nested."""
        outer = self.spans
        spans: list[Span] = []
        self.spans = spans
        try:
            yield spans
        finally:
            self.spans = outer
            if outer is not None:
                outer += spans


@contextlib.contextmanager
def traced(clock: Clock, path: Path | None, **about: Any) -> Iterator[None]:
    """Writes what the block did to a trace file, also when it raises; path None: nothing. about: facts for people,
    JSON. Raises OSError."""
    if path is None:
        yield
        return
    with clock.recording() as spans:
        try:
            yield
        finally:
            write_trace(path, spans, about)


def in_order(spans: Sequence[Span]) -> list[Span]:
    """By start; of two that start together the longer one comes first, as a trace viewer needs it."""
    return sorted(spans, key=lambda span: (span.start, -span.end))


def write_trace(path: Path, spans: Sequence[Span], about: Mapping[str, Any]) -> None:
    """Time 0 is the first span's start. about: facts for people, JSON. Raises OSError."""
    ordered = in_order(spans)
    origin = ordered[0].start if ordered else 0.0
    threads = {worker: index + 1 for index, worker in enumerate(dict.fromkeys(span.worker for span in ordered))}
    names = [("process_name", 0, "shadowattn"), *(("thread_name", thread, name) for name, thread in threads.items())]
    events: list[dict[str, Any]] = [
        {"name": kind, "ph": "M", "pid": 1, "tid": thread, "args": {"name": name}} for kind, thread, name in names
    ]
    for span in ordered:  # both ends in whole nanoseconds, so that what was nested stays nested
        start, end = (round((seconds - origin) * 1e9) for seconds in (span.start, span.end))
        event = {"name": span.name, "cat": span.kind, "ph": "X", "pid": 1, "tid": threads[span.worker]}
        events.append(event | {"ts": start / 1000, "dur": (end - start) / 1000, "args": dict(span.args)})
    whole = {"traceEvents": events, "displayTimeUnit": "ms", "otherData": dict(about)}
    path.write_text(json.dumps(whole, allow_nan=False) + "\n", "utf-8")
