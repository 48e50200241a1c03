"""Reads a Chrome JSON trace as Perfetto's trace processor does, and raises where that would drop or guess something.

python tests/runtime/perfetto_reader.py FILE...

Perfetto (importers/json, importers/common/slice_tracker.cc) sorts events by time, keeps the file's order among equal
times, and has a stack of open slices for every thread. A slice that begins inside another must end inside of it, or it
is dropped; so is one with a negative time or duration. Microseconds become nanoseconds by rounding (older versions cut
off, which `to_ns=int` stands for).
"""

import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Slice(NamedTuple):
    """start, end: ns; depth: how many slices it lies in."""

    name: str
    start: int
    end: int
    depth: int


_OPEN = math.inf  # the end of a slice that only its E event will tell


def read(text: str, to_ns: Callable[[float], int] = round) -> dict[str, list[Slice]]:
    """A trace file's text -> the slices of each named thread, in the order of their begin. Raises ValueError."""
    trace = json.loads(text, parse_constant=_no_constant)
    events = trace["traceEvents"]
    names = _thread_names(events)
    timed = [event for event in events if event["ph"] != "M"]
    for event in timed:
        _check_event(event, names)
    threads: defaultdict[tuple[int, int], _Thread] = defaultdict(_Thread)
    last: dict[tuple[int, int], float] = {}
    for event in timed:
        thread = event["pid"], event["tid"]
        _need(last.get(thread, 0) <= event["ts"], f"thread {thread}: {event} lies after one that begins later")
        last[thread] = event["ts"]
    for event in sorted(timed, key=lambda event: to_ns(event["ts"] * 1000)):
        threads[event["pid"], event["tid"]].take(event, to_ns)
    return {name: threads[thread].closed() for thread, name in names.items()}


def _thread_names(events: list[dict[str, Any]]) -> dict[tuple[int, int], str]:
    """(pid, tid) -> the thread's name; each name and each process's once."""
    found: dict[tuple[int, int], str] = {}
    processes = {event["pid"] for event in events if event["ph"] == "M" and event["name"] == "process_name"}
    for event in events:
        if event["ph"] == "M" and event["name"] == "thread_name":
            thread = event["pid"], event["tid"]
            _need(thread not in found, f"thread {thread} has two names")
            _need(event["pid"] in processes, f"process {event['pid']} has no name")
            _need(bool(event["args"]["name"]), f"thread {thread} has an empty name")
            found[thread] = event["args"]["name"]
    _need(len(set(found.values())) == len(found), f"two threads have one name: {sorted(found.values())}")
    return found


def _check_event(event: dict[str, Any], names: dict[tuple[int, int], str]) -> None:
    _need(event["ph"] in ("B", "E", "X"), f"{event}: a phase that this reader does not know")
    _need((event["pid"], event["tid"]) in names, f"{event}: of a thread without a name")
    for field in ("ts", "dur") if event["ph"] == "X" else ("ts",):
        value = event.get(field)
        fits = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        _need(fits, f"{event}: {field} must be microseconds of at least 0")
    _need(event["ph"] == "E" or bool(event.get("name")), f"{event}: has no name")


class _Thread:
    def __init__(self) -> None:
        self._slices: list[Slice] = []
        self._stack: list[int] = []  # places in _slices of the open ones, the innermost last

    def take(self, event: dict[str, Any], to_ns: Callable[[float], int]) -> None:
        """Events come by time."""
        start = to_ns(event["ts"] * 1000)
        self._close(start, empty=event.get("dur") == 0)
        if event["ph"] == "E":
            self._end(event, start)
            return
        end = start + to_ns(event["dur"] * 1000) if event["ph"] == "X" else _OPEN
        for outer in (self._slices[place] for place in self._stack):
            _need(end is _OPEN or end <= outer.end, f"{event} overlaps {outer}: it would be dropped")
        self._stack.append(len(self._slices))
        self._slices.append(Slice(event["name"], start, end, len(self._stack) - 1))  # type: ignore[arg-type]

    def _close(self, now: int, empty: bool) -> None:
        """Slices that have ended; of two empty ones at one time the second lies in the first."""
        while self._stack:
            last = self._slices[self._stack[-1]]
            if last.end > now or (last.end == now and last.start == last.end and empty):
                return
            self._stack.pop()

    def _end(self, event: dict[str, Any], now: int) -> None:
        _need(bool(self._stack), f"{event}: ends a slice that never began")
        place = self._stack.pop()
        last = self._slices[place]
        _need(last.end is _OPEN, f"{event}: ends {last}, which said itself when it ends")
        _need(event.get("name", last.name) == last.name, f"{event}: ends {last}")
        self._slices[place] = last._replace(end=now)

    def closed(self) -> list[Slice]:
        endless = [one for one in self._slices if one.end is _OPEN]
        _need(not endless, f"{endless} never end")
        return self._slices


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def _need(fits: bool, message: str) -> None:
    if not fits:
        raise ValueError(message)


if __name__ == "__main__":
    for file in sys.argv[1:]:
        content = Path(file).read_text("utf-8")
        for how in (round, int):
            for thread, slices in read(content, how).items():
                deepest = max((one.depth for one in slices), default=0)
                print(f"{file}, {how.__name__}: {thread}: {len(slices):,} slices, nested {deepest} deep")
