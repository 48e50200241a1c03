"""Recording spans from several threads, the Perfetto file, and the check of its balance."""

import json
import math
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from scheduling_problems import SEED, random_problem

from shadowattn.runtime.scheduling.planners import plan
from shadowattn.runtime.tracing.balance import check_balance
from shadowattn.runtime.tracing.perfetto import to_perfetto, write_perfetto
from shadowattn.runtime.tracing.predicted import predicted_spans
from shadowattn.runtime.tracing.trace import Span, Trace


def test_a_block_is_a_span_even_when_it_raises() -> None:
    trace = Trace()
    before = time.perf_counter()
    with trace.span("graph", "attend", "cpu", group=3), trace.span("op", "select", "cpu"):
        pass
    with pytest.raises(KeyError), trace.span("wait", "scores", "cpu"):
        raise KeyError
    outer, inner, wait = trace.spans()
    assert (outer.kind, outer.name, outer.worker, outer.args) == ("graph", "attend", "cpu", {"group": 3})
    assert (inner.name, inner.args) == ("select", {})
    assert before <= outer.start <= inner.start <= inner.end <= outer.end <= wait.start <= wait.end


def test_threads_add_without_losing_any() -> None:
    trace = Trace()

    def work(worker: str) -> None:
        for index in range(2000):
            with trace.span("graph", "attend", worker, group=index):
                pass

    threads = [threading.Thread(target=work, args=(f"worker {index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spans = trace.spans()
    assert {(span.worker, span.args["group"]) for span in spans} == {
        (f"worker {index}", group) for index in range(4) for group in range(2000)
    }
    check_balance(to_perfetto(spans, simulated=False))


def test_perfetto_by_hand() -> None:
    spans = [
        Span("graph", "estimate", "npu", 10.0, 10.002, {"group": 0}),
        Span("wait", "scores", "cpu", 10.0005, 10.002),
    ]
    trace = to_perfetto(spans, simulated=True, metadata={"bundle": "tiny"})
    assert trace["otherData"] == {"simulated": True, "bundle": "tiny"}
    assert trace["traceEvents"] == [
        {"name": "process_name", "ph": "M", "pid": 1, "tid": 0, "args": {"name": "shadowattn (SIMULATED)"}},
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": 1, "args": {"name": "npu"}},
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": 2, "args": {"name": "cpu"}},
        {"name": "estimate", "cat": "graph", "ph": "X", "pid": 1, "tid": 1, "ts": 0, "dur": 2000, "args": {"group": 0}},
        {"name": "scores", "cat": "wait", "ph": "X", "pid": 1, "tid": 2, "ts": 500, "dur": 1500, "args": {}},
    ]
    assert "SIMULATED" not in json.dumps(to_perfetto(spans, simulated=False))


def test_schedules_become_balanced_traces() -> None:
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    for _ in range(50):
        given = random_problem(rng)
        schedule = plan(given)
        spans = predicted_spans(schedule, start=rng.uniform(0, 1e6))
        trace = to_perfetto(spans, simulated=True)
        check_balance(trace)
        ends = [event["ts"] + event["dur"] for event in trace["traceEvents"] if event["ph"] == "X"]
        assert max(ends) == pytest.approx(schedule.makespan * 1e6, abs=0.01)
        assert [span.args["heads"] for span in spans if span.name == "estimate"] == [
            list(group.heads) for group in schedule.groups
        ]
        handovers = [span.end - span.start for span in spans if span.kind == "wait"]
        assert sum(handovers) == pytest.approx(given.handover_seconds, abs=1e-8)  # of a large clock
        assert len(handovers) == bool(given.handover_seconds)


def test_nested_spans_stay_nested() -> None:
    """Random trees of spans at a large perf_counter, whose float steps are coarser than a nanosecond's."""
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    spans: list[Span] = []

    def grow(start: float, end: float, depth: int) -> None:
        spans.append(Span("graph", f"depth {depth}", "cpu", start, end))
        cuts = sorted(rng.uniform(start, end) for _ in range(4))
        if depth < 4:
            grow(cuts[0], cuts[1], depth + 1)
            grow(cuts[1], cuts[2], depth + 1)

    grow(3e6, 3e6 + 1e-3, 0)
    rng.shuffle(spans)
    check_balance(to_perfetto(spans, simulated=False))


def test_an_empty_trace_is_balanced() -> None:
    check_balance(to_perfetto(Trace().spans(), simulated=False))


def test_a_file_is_json(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    write_perfetto(path, [Span("op", "append", "cpu", 0.0, 0.5)], simulated=False)
    check_balance(json.loads(path.read_text("utf-8")))
    with pytest.raises(ValueError, match="must be plain JSON values"):
        write_perfetto(path, [Span("op", "append", "cpu", 0.0, 0.5, {"heads": {1}})], simulated=False)
    with pytest.raises(ValueError, match="Out of range float"):
        write_perfetto(path, [], simulated=False, metadata={"seconds": math.nan})
    with pytest.raises(ValueError, match=r"span 'append' of 'cpu' ends 1\.0 s before it starts"):
        to_perfetto([Span("op", "append", "cpu", 1.0, 0.0)], simulated=False)


def _events(*intervals: tuple[float, float]) -> dict[str, Any]:
    return to_perfetto([Span("graph", "attend", "cpu", *interval) for interval in intervals], simulated=False)


def test_the_check_finds_every_kind_of_fault() -> None:
    check_balance(_events((0, 4), (0, 2), (2, 4), (4, 5), (4, 4)))
    negative, unnamed, endless = _events((0, 1)), _events((0, 1)), _events((0, 1))
    negative["traceEvents"][-1]["dur"] = -1
    del unnamed["traceEvents"][1]
    endless["traceEvents"][-1]["ts"] = math.inf
    faults = {
        "'attend', 1000000000 to 3000000000 ns, overlaps 'attend', which ends at 2000000000 ns": _events(
            (0, 2), (1, 3)
        ),
        "overlaps": _events((0, 10), (1, 3), (2, 4)),
        "dur must be finite microseconds of at least 0, got -1": negative,
        "ts must be finite microseconds of at least 0, got inf": endless,
        "thread 1 has events and no name": unnamed,
        "whether it is simulated": {"traceEvents": []},
        "the list traceEvents": {"otherData": {"simulated": True}},
    }
    for message, trace in faults.items():
        with pytest.raises(ValueError, match=message):
            check_balance(trace)
