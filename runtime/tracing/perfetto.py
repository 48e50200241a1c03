"""Spans as Chrome trace-event JSON, which ui.perfetto.dev and chrome://tracing open.

Format: "Trace Event Format" (the JSON object form): complete events (ph X, ts and dur in microseconds) and metadata
events (ph M) that name the process and its threads.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shadowattn.runtime.tracing.trace import Span

_PROCESS = 1


def to_perfetto(spans: Sequence[Span], simulated: bool, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The file's object; time 0 is the first span's start. simulated: whether any worker's times are; the name of the
    process says so too. Raises ValueError for a span that ends before it starts."""
    origin = min((span.start for span in spans), default=0.0)
    threads = {worker: index + 1 for index, worker in enumerate(dict.fromkeys(span.worker for span in spans))}
    process = "shadowattn (SIMULATED)" if simulated else "shadowattn"
    events = [_name("process_name", 0, process), *(_name("thread_name", threads[name], name) for name in threads)]
    events += [_complete(span, origin, threads[span.worker]) for span in spans]
    about = {"simulated": simulated, **(metadata or {})}
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": about}


def write_perfetto(
    path: Path, spans: Sequence[Span], simulated: bool, metadata: Mapping[str, Any] | None = None
) -> None:
    """to_perfetto into a file. Raises ValueError for args or metadata that are no JSON."""
    try:
        text = json.dumps(to_perfetto(spans, simulated, metadata), allow_nan=False)
    except TypeError as error:
        raise ValueError(f"{path}: args and metadata of a trace must be plain JSON values ({error})") from None
    path.write_text(text + "\n", "utf-8")


def _name(kind: str, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": _PROCESS, "tid": thread, "args": {"name": name}}


def _complete(span: Span, origin: float, thread: int) -> dict[str, Any]:
    """Both ends are rounded to whole nanoseconds, so that what was nested stays nested."""
    start, end = (round((seconds - origin) * 1e9) for seconds in (span.start, span.end))
    if end < start:
        raise ValueError(f"span {span.name!r} of {span.worker!r} ends {span.start - span.end} s before it starts")
    times = {"ts": start / 1000, "dur": (end - start) / 1000}
    return (
        {"name": span.name, "cat": span.kind, "ph": "X", "pid": _PROCESS, "tid": thread} | times | {"args": span.args}
    )
