"""Runs a graph again and again as benchmark_model does, and its line of statistics."""

import dataclasses
import time
from collections.abc import Callable, Sequence


@dataclasses.dataclass(frozen=True)
class Pace:
    """At least min_runs and min_secs, no new run after max_secs; delay: seconds between runs."""

    min_runs: int
    min_secs: float
    max_secs: float
    delay: float


def run_repeatedly(before: Callable[[], None], run: Callable[[], None], pace: Pace) -> list[int]:
    """Microseconds of every run; `before` is not timed."""
    times: list[int] = []
    start = now = time.monotonic()
    while (len(times) < pace.min_runs or now - start < pace.min_secs) and now - start <= pace.max_secs:
        before()
        began = time.perf_counter_ns()
        run()
        times.append((time.perf_counter_ns() - began) // 1000)
        if pace.delay > 0:
            time.sleep(pace.delay)
        now = time.monotonic()
    return times


def mean(times: Sequence[int]) -> float:
    """nan of nothing."""
    return sum(times) / len(times) if times else float("nan")


def format_statistics(times: Sequence[int]) -> str:
    """`count=.. first=.. curr=.. min=.. max=.. avg=.. std=.. p5=.. median=.. p95=..`, in microseconds."""
    if not times:
        return "count=0"
    ordered = sorted(times)
    p5, median, p95 = (ordered[len(ordered) * percent // 100] for percent in (5, 50, 95))
    percentiles = f"p5={p5} median={median} p95={p95}"
    if ordered[0] == ordered[-1]:
        return f"count={len(times)} curr={times[-1]}{'(all same)' if len(times) > 1 else ''} {percentiles}"
    average = mean(times)
    deviation = int((sum((value - average) ** 2 for value in times) / len(times)) ** 0.5)
    return (
        f"count={len(times)} first={times[0]} curr={times[-1]} min={ordered[0]} max={ordered[-1]} "
        f"avg={average:g} std={deviation} {percentiles}"
    )
