"""The picture of a trace: which bars and labels there are, and that it says when it is simulated."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from shadowattn.runtime.scheduling.planners import plan
from shadowattn.runtime.scheduling.problem import Problem
from shadowattn.runtime.tracing import gantt
from shadowattn.runtime.tracing.predicted import predicted_spans
from shadowattn.runtime.tracing.trace import Span

needs_matplotlib = pytest.mark.skipif(not gantt.can_plot(), reason=gantt.MISSING)

PREDICTED = predicted_spans(plan(Problem(4, (0,) * 4, {1: 0.002, 4: 0.004}, (0.001,) * 4, (0.002,) * 4), "fifo"))
MEASURED = [
    Span("graph", "linear", "main", 7.000, 7.001),
    Span("graph", "estimate", "npu", 7.001, 7.005, {"group": 0, "heads": [0, 1, 2, 6]}),
    Span("wait", "scores", "cpu", 7.001, 7.005),
    Span("graph", "attend", "cpu", 7.005, 7.020, {"group": 0}),
    Span("op", "gather", "cpu", 7.005, 7.00501, {"group": 0}),
]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved."""
    from matplotlib.figure import Figure

    figures: list[Any] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: (figures.append(self), save(self, *args, **kw))[1])
    return figures


def bars(axis: Any) -> int:
    return sum(len(collection.get_paths()) for collection in axis.collections)


@needs_matplotlib
def test_predicted_above_measured(tmp_path: Path, drawn: list[Any]) -> None:
    path = tmp_path / "gantt.png"
    gantt.draw_gantt(path, "one layer", MEASURED, PREDICTED, simulated=True)
    assert path.read_bytes().startswith(b"\x89PNG")
    (figure,) = drawn
    above, below = figure.axes
    assert figure.get_suptitle() == "SIMULATED: one layer"
    assert (above.get_title("left"), below.get_title("left")) == ("predicted: 14 ms", "measured: 20 ms")
    assert [label.get_text() for label in above.get_yticklabels()] == ["npu", "cpu"]
    assert [label.get_text() for label in below.get_yticklabels()] == ["main", "npu", "cpu"]
    assert (bars(above), bars(below)) == (len(PREDICTED), len(MEASURED))
    assert [text.get_text() for text in below.texts] == ["0: h0-2,6", "0"]
    assert below.get_xlim() == above.get_xlim() == (0, pytest.approx(20.2))
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["estimate", "select", "attend", "linear", "wait", "gather"]


@needs_matplotlib
def test_one_of_the_two_alone(tmp_path: Path, drawn: list[Any]) -> None:
    gantt.draw_gantt(tmp_path / "a.png", "measured here", MEASURED)
    gantt.draw_gantt(tmp_path / "b.png", "planned", [], PREDICTED)
    assert [len(figure.axes) for figure in drawn] == [1, 1]
    assert drawn[0].get_suptitle() == "measured here"


@needs_matplotlib
def test_spans_without_length(tmp_path: Path) -> None:
    gantt.draw_gantt(tmp_path / "a.png", "nothing took time", [Span("graph", "attend", "cpu", 1.0, 1.0, {"group": 0})])


def test_no_spans(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one span"):
        gantt.draw_gantt(tmp_path / "a.png", "", [])


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not gantt.can_plot()
    assert "pip install 'shadowattn[plots]'" in gantt.MISSING
