"""Reads our traces as Perfetto's trace processor does, and raises where that would drop or guess something.

Perfetto (importers/json, importers/common/slice_tracker.cc) sorts events by time, keeps the file's order among equal
times, and has a stack of open slices for every thread. A slice that begins inside another must end inside of it, or it
is dropped; so is one with a negative time or duration. Microseconds become nanoseconds by rounding (older versions cut
off, which `to_ns=int` stands for).
"""

import json
from collections.abc import Callable
from typing import NamedTuple


class Slice(NamedTuple):
    """start, end: ns; depth: how many slices it lies in."""

    name: str
    start: int
    end: int
    depth: int


def read(text: str, to_ns: Callable[[float], int] = round) -> dict[str, list[Slice]]:
    """A trace file's text -> the slices of each named thread, in the order of their begin. Raises ValueError."""
    events = json.loads(text, parse_constant=lambda word: _need(False, f"{word} is not JSON"))["traceEvents"]
    threads = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    _need(len(set(threads.values())) == len(threads) and all(threads.values()), f"each thread needs a name: {threads}")
    _need(sum(event["name"] == "process_name" for event in events) == 1, "the process has no name")
    found: dict[str, list[Slice]] = {name: [] for name in threads.values()}
    stacks: dict[str, list[Slice]] = {name: [] for name in threads.values()}
    timed = [event for event in events if event["ph"] != "M"]
    for event in timed:
        whole = event["ph"] == "X" and event["name"] and event["tid"] in threads
        _need(whole, f"{event}: wanted a complete event of a named thread")
        _need(min(event["ts"], event["dur"]) >= 0, f"{event}: times must not be negative")
    for event in sorted(timed, key=lambda event: to_ns(event["ts"] * 1000)):
        start = to_ns(event["ts"] * 1000)
        end, stack = start + to_ns(event["dur"] * 1000), stacks[threads[event["tid"]]]
        while stack and (stack[-1].end < start or (stack[-1].end == start and not stack[-1].start == start == end)):
            stack.pop()
        for outer in stack:
            _need(end <= outer.end, f"{event} overlaps {outer}: it would be dropped")
        stack.append(Slice(event["name"], start, end, len(stack)))
        found[threads[event["tid"]]].append(stack[-1])
    return found


def _need(fits: bool, message: str) -> None:
    if not fits:
        raise ValueError(message)
