"""Spans of several threads, the Perfetto file as a strict reader of Perfetto's rules takes it, and the picture."""

import copy
import importlib.util
import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import perfetto_reader
import pytest
from schedule_oracle import SEED

from shadowattn.runtime.pipeline import gantt
from shadowattn.runtime.pipeline.schedule import make_schedule
from shadowattn.runtime.pipeline.trace import Clock, Span, traced, write_trace

BY_HAND: dict[str, Any] = {
    "traceEvents": [
        {"name": "process_name", "ph": "M", "pid": 1, "tid": 0, "args": {"name": "p"}},
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": 1, "args": {"name": "cpu"}},
        {"name": "chunk", "ph": "X", "pid": 1, "tid": 1, "ts": 0.5, "dur": 9.5},
        {"name": "attend", "ph": "X", "pid": 1, "tid": 1, "ts": 1, "dur": 2},
        {"name": "attend", "ph": "X", "pid": 1, "tid": 1, "ts": 3, "dur": 1.001},
        {"name": "next", "ph": "X", "pid": 1, "tid": 1, "ts": 10, "dur": 0},
    ]
}


def test_the_reader_by_hand() -> None:
    wanted = [("chunk", 500, 10000, 0), ("attend", 1000, 3000, 1), ("attend", 3000, 4001, 1), ("next", 10000, 10000, 0)]
    assert perfetto_reader.read(json.dumps(BY_HAND)) == {"cpu": wanted}


@pytest.mark.parametrize(
    ("place", "changes", "message"),
    [
        (4, {"dur": 8}, "overlaps Slice.name='chunk'.*: it would be dropped"),
        (5, {"ts": 9.9, "dur": 0.2}, "overlaps .*chunk"),
        (3, {"dur": -1}, "must not be negative"),
        (3, {"dur": float("nan")}, "NaN is not JSON"),
        (3, {"tid": 2}, "of a named thread"),
        (3, {"ph": "B"}, "wanted a complete event"),
        (1, {"args": {"name": ""}}, "threads need one name each"),
        (0, {"name": "process_labels"}, "the process has no name"),
    ],
)
def test_the_reader_finds_every_kind_of_fault(place: int, changes: dict[str, Any], message: str) -> None:
    trace = copy.deepcopy(BY_HAND)
    trace["traceEvents"][place].update(changes)
    with pytest.raises(ValueError, match=message):
        perfetto_reader.read(json.dumps(trace))


def test_nested_spans_of_several_threads_stay_nested(tmp_path: Path) -> None:
    """Random trees of spans at a large perf_counter, whose float steps are coarser than a nanosecond's."""
    print(f"seed {SEED}")
    rng, spans = random.Random(SEED), []

    def grow(worker: str, start: float, end: float, depth: int) -> None:
        spans.append(Span("graph", f"depth {depth}", worker, start, end))
        cuts = sorted(rng.uniform(start, end) for _ in range(4))
        for low in (0, 1) if depth < 4 else ():
            grow(worker, cuts[low], cuts[low + 1], depth + 1)

    for worker in ("cpu", "npu"):
        grow(worker, 3e6, 3e6 + 1e-3, 0)
    rng.shuffle(spans)
    write_trace(tmp_path / "trace.json", spans, {"model": "tiny"})
    text = (tmp_path / "trace.json").read_text("utf-8")
    assert json.loads(text)["otherData"] == {"model": "tiny"}
    for to_ns in (round, int):
        assert {name: len(slices) for name, slices in perfetto_reader.read(text, to_ns).items()} == {
            "cpu": 31,
            "npu": 31,
        }


def test_threads_add_without_losing_any() -> None:
    clock = Clock()

    def work(worker: str) -> None:
        for index in range(2000):
            with clock.span("attend", "graph", worker, group=index):
                pass

    with clock.recording() as spans:
        threads = [threading.Thread(target=work, args=(f"worker {index}",)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {(span.worker, span.args["group"]) for span in spans} == {
        (f"worker {index}", group) for index in range(4) for group in range(2000)
    }
    assert clock.spans is None


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, RuntimeError])
def test_a_trace_file_holds_what_was_recorded_whatever_ended_it(tmp_path: Path, error: Any) -> None:
    clock, path = Clock(), tmp_path / "run.json"

    def work() -> None:
        with clock.span("total"), clock.recording() as inner:
            with clock.span("linear", "graph"):
                pass
            assert [span.name for span in inner] == ["linear"]
            if error:
                raise error

    def run(file: Path | None) -> None:
        with traced(clock, file, model="tiny"):
            work()

    for file in (None, path):
        if error:
            with pytest.raises(error):
                run(file)
        else:
            run(file)
    assert [one.name for one in perfetto_reader.read(path.read_text("utf-8"))["cpu"]] == ["total", "linear"]


# --- the picture ---

needs_matplotlib = pytest.mark.skipif(not gantt.can_plot(), reason=gantt.MISSING)


@needs_matplotlib
def test_predicted_above_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    drawn: list[Any] = []
    save: Callable[..., None] = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: (drawn.append(self), save(self, *args, **kw))[1])
    predicted = gantt.predicted_spans(make_schedule({1: (2e-3, 3e-3), 4: (4e-3, 10e-3)}, (0,) * 4, 4), "npu")
    about = {"group": 0, "heads": [0, 1, 2, 6]}
    measured = [
        Span("graph", "estimate", "npu", 7.000, 7.004, about),
        Span("wait", "wait_scores", "cpu", 7.000, 7.004),
        Span("op", "attend", "cpu", 7.004, 7.020, about),
        Span("op", "attend", "cpu", 7.020, 7.020, about),
    ]
    gantt.draw_gantt(tmp_path / "gantt.png", "one layer", predicted, measured)
    assert (tmp_path / "gantt.png").read_bytes().startswith(b"\x89PNG")
    (figure,) = drawn
    above, below = figure.axes
    assert figure.get_suptitle() == "one layer"
    assert (above.get_title("left"), below.get_title("left")) == ("predicted: 14 ms", "measured: 20 ms")
    for axis in (above, below):
        assert [label.get_text() for label in axis.get_yticklabels()] == ["npu", "cpu"]
        assert axis.get_xlim() == (0, pytest.approx(20.2))
    assert sum(len(collection.get_paths()) for collection in below.collections) == len(measured)
    assert [text.get_text() for text in below.texts] == ["0: h0-2,6"] * 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["wait", "estimate", "attend"]


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not gantt.can_plot()
    assert "pip install matplotlib" in gantt.MISSING
