"""Spans of several threads, the Perfetto file as a strict reader of Perfetto's rules takes it, and the picture."""

import importlib.util
import json
import random
from pathlib import Path
from typing import Any

import perfetto_reader
import pytest

from shadowattn.runtime.pipeline import gantt
from shadowattn.runtime.pipeline.schedule import make_schedule
from shadowattn.runtime.pipeline.trace import Span, write_trace

ABOUT = {"group": 0, "heads": [0, 1, 2, 6]}
SPANS = [
    Span("op", "chunk", "cpu", 7.0, 7.02),
    Span("graph", "estimate", "npu", 7.0, 7.004, ABOUT),
    Span("wait", "wait_scores", "cpu", 7.0, 7.004),
    Span("op", "attend", "cpu", 7.004, 7.02, ABOUT),
    Span("op", "attend", "cpu", 7.02, 7.02, ABOUT),
]


@pytest.mark.parametrize(
    ("place", "changes", "message"),
    [
        (6, {"dur": 17000}, "overlaps Slice.name='chunk'.*: it would be dropped"),
        (7, {"ts": 19000, "dur": 1001}, "overlaps .*chunk"),
        (6, {"dur": -1}, "must not be negative"),
        (6, {"dur": float("nan")}, "NaN is not JSON"),
        (6, {"tid": 3}, "of a named thread"),
        (6, {"ph": "B"}, "wanted a complete event"),
        (1, {"args": {"name": ""}}, "each thread needs a name"),
        (0, {"name": "process_labels"}, "the process has no name"),
    ],
)
def test_the_reader_finds_every_kind_of_fault(
    tmp_path: Path, place: int, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "trace.json"
    write_trace(path, SPANS, {"model": "tiny"})
    trace = json.loads(path.read_text("utf-8"))
    assert trace["otherData"] == {"model": "tiny"}
    ms = 10**6
    assert perfetto_reader.read(json.dumps(trace)) == {
        "cpu": [
            ("chunk", 0, 20 * ms, 0), ("wait_scores", 0, 4 * ms, 1), ("attend", 4 * ms, 20 * ms, 1),
            ("attend", 20 * ms, 20 * ms, 0),
        ],
        "npu": [("estimate", 0, 4 * ms, 0)],
    }  # fmt: skip
    trace["traceEvents"][place].update(changes)
    with pytest.raises(ValueError, match=message):
        perfetto_reader.read(json.dumps(trace))


def test_nested_spans_of_several_threads_stay_nested(tmp_path: Path) -> None:
    """Random trees of spans at a large perf_counter, whose float steps are coarser than a nanosecond's."""
    seed = random.SystemRandom().randrange(2**31)
    print("seed", seed)
    rng, spans = random.Random(seed), []

    def grow(worker: str, start: float, end: float, depth: int) -> None:
        spans.append(Span("graph", f"depth {depth}", worker, start, end))
        cuts = sorted(rng.uniform(start, end) for _ in range(4))
        for low in (0, 1) if depth < 4 else ():
            grow(worker, cuts[low], cuts[low + 1], depth + 1)

    for worker in ("cpu", "npu"):
        grow(worker, 3e6, 3e6 + 1e-3, 0)
    rng.shuffle(spans)
    write_trace(tmp_path / "trace.json", spans, {})
    threads = perfetto_reader.read((tmp_path / "trace.json").read_text("utf-8"))
    assert {name: len(slices) for name, slices in threads.items()} == {"cpu": 31, "npu": 31}


# --- the picture ---


def test_predicted_above_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    drawn: list[Any] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: (drawn.append(self), save(self, *args, **kw))[1])
    predicted = gantt.predicted_spans(make_schedule({1: (2e-3, 3e-3), 4: (4e-3, 10e-3)}, (0,) * 4, 4), "npu")
    gantt.draw_gantt(tmp_path / "gantt.png", "one layer", predicted, SPANS[1:])
    assert (tmp_path / "gantt.png").read_bytes().startswith(b"\x89PNG")
    (figure,) = drawn
    above, below = figure.axes
    assert figure.get_suptitle() == "one layer"
    assert (above.get_title("left"), below.get_title("left")) == ("predicted: 14 ms", "measured: 20 ms")
    for axis in (above, below):
        assert [label.get_text() for label in axis.get_yticklabels()] == ["npu", "cpu"]
        assert axis.get_xlim() == (0, pytest.approx(20.2))
    assert len(below.patches) == 4
    assert [text.get_text() for text in below.texts] == ["0: h0-2,6"] * 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["wait", "estimate", "attend"]


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not gantt.can_plot()
    assert "pip install matplotlib" in gantt.MISSING
