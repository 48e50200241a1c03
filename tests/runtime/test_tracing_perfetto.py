"""What Perfetto would make of our traces: a strict reader of its rules, by hand and over traces of every command."""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import perfetto_reader
import pytest
from cli_runner import run, run_process, write_speaking_bundle
from scheduling_problems import SEED, random_problem

from shadowattn.runtime.scheduling.planners import plan
from shadowattn.runtime.tracing.perfetto import to_perfetto
from shadowattn.runtime.tracing.predicted import predicted_spans

BY_HAND: dict[str, Any] = {
    "traceEvents": [
        {"name": "process_name", "ph": "M", "pid": 1, "tid": 0, "args": {"name": "p"}},
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": 1, "args": {"name": "cpu"}},
        {"name": "chunk", "ph": "X", "pid": 1, "tid": 1, "ts": 0.5, "dur": 9.5},
        {"name": "layer", "ph": "B", "pid": 1, "tid": 1, "ts": 1},
        {"name": "attend", "ph": "X", "pid": 1, "tid": 1, "ts": 1, "dur": 2},
        {"name": "attend", "ph": "X", "pid": 1, "tid": 1, "ts": 3, "dur": 1.001},
        {"name": "layer", "ph": "E", "pid": 1, "tid": 1, "ts": 6},
        {"name": "next", "ph": "X", "pid": 1, "tid": 1, "ts": 10, "dur": 0},
    ]
}


def test_the_reader_by_hand() -> None:
    assert perfetto_reader.read(json.dumps(BY_HAND)) == {
        "cpu": [
            ("chunk", 500, 10000, 0),
            ("layer", 1000, 6000, 1),
            ("attend", 1000, 3000, 2),
            ("attend", 3000, 4001, 2),
            ("next", 10000, 10000, 0),
        ]
    }


def _with(place: int, **changes: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda events: events[place].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with(5, dur=8), "overlaps Slice.name='chunk'.*: it would be dropped"),
        (_with(5, dur=4), "ends Slice.name='attend'.* which said itself when it ends"),
        (_with(7, ts=9.9, dur=0.2), "overlaps .*chunk.*: it would be dropped"),
        (_with(4, dur=-1), "dur must be microseconds of at least 0"),
        (_with(2, ts=-1), "ts must be microseconds of at least 0"),
        (_with(4, ts="1"), "ts must be microseconds"),
        (_with(4, dur=float("nan")), "NaN is no JSON"),
        (_with(4, tid=2), "of a thread without a name"),
        (_with(4, ph="Q"), "a phase that this reader does not know"),
        (_with(4, name=""), "has no name"),
        (_with(1, name="thread_sort_index"), "of a thread without a name"),
        (_with(1, args={"name": ""}), "has an empty name"),
        (_with(0, name="process_labels"), "process 1 has no name"),
        (_with(6, name="chunk"), "ends Slice"),
        (lambda events: events.pop(6), "never end"),
        (lambda events: events.pop(3), "which said itself when it ends"),
        (lambda events: events.insert(2, events.pop(6)), "lies after one that begins later"),
        (lambda events: events.append(dict(events[6], ts=11)), "ends a slice that never began"),
        (lambda events: events.append(events[1]), "has two names"),
    ],
)
def test_the_reader_finds_every_kind_of_fault(change: Callable[[list[dict[str, Any]]], None], message: str) -> None:
    trace = copy.deepcopy(BY_HAND)
    change(trace["traceEvents"])
    with pytest.raises(ValueError, match=message):
        perfetto_reader.read(json.dumps(trace))


def test_of_equal_times_the_outer_one_must_come_first() -> None:
    """Perfetto keeps the file's order there, so that the wrong one drops the outer slice."""
    trace = copy.deepcopy(BY_HAND)
    events = trace["traceEvents"][:2] + [dict(BY_HAND["traceEvents"][4], dur=dur) for dur in (2, 5)]
    with pytest.raises(ValueError, match="overlaps"):
        perfetto_reader.read(json.dumps({"traceEvents": events}))
    assert len(perfetto_reader.read(json.dumps({"traceEvents": events[:2] + events[:1:-1]}))["cpu"]) == 2


def _check(text: str, workers: set[str]) -> dict[str, list[perfetto_reader.Slice]]:
    """Every complete event is a slice, for both ways to make nanoseconds of a file's times."""
    events = [event for event in json.loads(text)["traceEvents"] if event["ph"] == "X"]
    for to_ns in (round, int):
        threads = perfetto_reader.read(text, to_ns)
        assert set(threads) == workers
        assert sum(map(len, threads.values())) == len(events) > 0
    return threads


def test_plans_are_read_whole() -> None:
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    for _ in range(50):
        spans = predicted_spans(plan(random_problem(rng)), start=rng.uniform(0, 1e6))
        threads = perfetto_reader.read(json.dumps(to_perfetto(spans, simulated=True)))
        assert sum(map(len, threads.values())) == len(spans)
        assert all(one.depth == 0 or one.start == one.end for slices in threads.values() for one in slices)


def test_traces_of_every_command_are_read_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Graphs, ops and waits of both workers, at most three deep: chunk, groups of a layer, a stage."""
    bundle, trace = write_speaking_bundle(tmp_path / "tiny.bundle"), tmp_path / "run.json"
    ways = {
        "schedule": ["--kv_len=200", "--runs=2"],
        "generate": ["--prompt=" + "a long enough prompt " * 8, "--max_new_tokens=3"],
        "bench": ["--prompt_lengths=200", "--runs=1", "--decode_tokens=3", "--executor=pipelined"],
    }
    for command, args in ways.items():
        start = run_process if command == "bench" else lambda *words: run(capsys, *words)
        outcome = start(command, bundle, *args, "--keep_ratio=0.3", "--num_threads=2", f"--trace={trace}")
        assert outcome.code == 0, outcome.err
        threads = _check(trace.read_text("utf-8"), {"cpu", "host INT8"})
        assert {one.name for one in threads["host INT8"]} == {"estimate", "wait_slot"}, command
        assert all(one.depth == 0 for one in threads["host INT8"])
        assert {one.name for one in threads["cpu"] if one.depth == 0} == {"total"}, command
        assert max(one.depth for one in threads["cpu"]) == 2
        trace.unlink()
