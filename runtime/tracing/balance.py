"""Checks a trace file's object: every thread has a name, and its events nest or follow one another."""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any


def check_balance(trace: Mapping[str, Any]) -> None:
    """trace: as perfetto.to_perfetto gives it. Raises ValueError that names the first fault."""
    events = trace.get("traceEvents")
    if not isinstance(events, list) or "simulated" not in trace.get("otherData", {}):
        raise ValueError("a trace needs the list traceEvents and, in otherData, whether it is simulated")
    named = {event["tid"] for event in events if event["ph"] == "M" and event["name"] == "thread_name"}
    threads = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            threads[event["tid"]].append(_interval(event))
    for thread, intervals in threads.items():
        if thread not in named:
            raise ValueError(f"thread {thread} has events and no name")
        _check_nested(thread, intervals)


def _interval(event: Mapping[str, Any]) -> tuple[int, int, str]:
    """(start, -end, name), in whole nanoseconds: they sort with the outer one of two that start together first."""
    for field in ("ts", "dur"):
        value = event.get(field)
        if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise ValueError(
                f"event {event['name']!r}: {field} must be finite microseconds of at least 0, got {value!r}"
            )
    start = round(event["ts"] * 1000)
    return start, -(start + round(event["dur"] * 1000)), event["name"]


def _check_nested(thread: int, intervals: list[tuple[int, int, str]]) -> None:
    open_ends: list[tuple[int, str]] = []
    for start, minus_end, name in sorted(intervals):
        while open_ends and open_ends[-1][0] <= start:
            open_ends.pop()
        if open_ends and -minus_end > open_ends[-1][0]:
            outer_end, outer = open_ends[-1]
            here = f"{name!r}, {start} to {-minus_end} ns,"
            raise ValueError(f"thread {thread}: {here} overlaps {outer!r}, which ends at {outer_end} ns")
        open_ends.append((-minus_end, name))
