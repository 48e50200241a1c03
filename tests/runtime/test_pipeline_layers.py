"""A trace layer by layer, and what handing over between the workers costs: by hand, and with workers that sleep."""

import statistics
import time
from pathlib import Path

import pytest
from pipelines import open_pipelined

from shadowattn.models.bundle import read_manifest
from shadowattn.runtime.pipeline.layers import by_layer
from shadowattn.runtime.pipeline.options import PipelineOptions
from shadowattn.runtime.pipeline.overlap import Overlapped
from shadowattn.runtime.pipeline.profiling import line, measure_profile
from shadowattn.runtime.scheduling.profiled import Shape, problem
from shadowattn.runtime.tracing.trace import Kind, Span, Trace


def _span(name: str, start: float, end: float, group: int | None = None, kind: Kind = "op") -> Span:
    return Span(kind, name, "cpu", start, end, {"layer": 3} if group is None else {"layer": 3, "group": group})


def test_by_hand() -> None:
    """Two groups: estimates 1 + 1, attends 2 + 2, which need 5 seconds with two buffers; they took 6.5."""
    inside = [
        _span("estimate", 10.5, 11.5, 0, "graph"), _span("estimate", 11.6, 12.6, 1, "graph"),
        _span("wait_scores", 10.0, 12.0, kind="wait"),
        _span("attend", 12.0, 14.0, 0), _span("attend", 14.5, 16.5, 1),
    ]  # fmt: skip
    around = [_span("append", 9.0, 9.9), _span("groups", 10.0, 16.5), _span("linear", 16.5, 17.0)]
    spans = sorted([*inside, *around, _span("groups", 20.0, 21.0)], key=lambda span: (span.start, -span.end))
    layer, empty = by_layer(spans)
    assert (layer.seconds, layer.whole.args["layer"]) == (6.5, 3)
    assert sorted(layer.parts, key=id) == sorted(inside, key=id)
    assert layer.work() == [(1.0, 2.0), (1.0, 2.0)]
    assert layer.handover(2) == pytest.approx(1.5)
    assert layer.handover(1) == pytest.approx(0.5)
    assert empty.parts == ()


def test_a_layer_that_took_less_than_its_stages_handed_over_in_no_time() -> None:
    spans = [_span("groups", 0, 2.9), _span("estimate", 0, 1, 0, "graph"), _span("attend", 1, 2.9, 0)]
    [layer] = by_layer(spans)
    assert layer.handover(2) == 0


def test_every_layer_of_a_run(wide: Path, text: list[int]) -> None:
    with open_pipelined(wide, PipelineOptions(heads=(1, 2))) as session:
        session.pipelined.clock.trace = trace = Trace()
        session.prefill(text[:64])
        record = session.pipelined.record
        layers = by_layer(trace.spans())
        assert [layer.whole.args["layer"] for layer in layers] == [0, 1] * len(record.chunks)
        assert sum(len(layer.work()) for layer in layers) == sum(chunk.launches for chunk in record.chunks)
        assert sum(layer.seconds for layer in layers) == pytest.approx(sum(chunk.measured for chunk in record.chunks))
        assert session.pipelined.depth == 2


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({1: 5.0, 3: 9.0, 9: 21.0}, (3.0, 2.0)),
        ({1: 4.0, 3: 4.0, 9: 4.0}, (4.0, 0.0)),
        ({1: 4.2, 3: 4.0, 9: 3.8}, (4.0, 0.0)),  # more of them would cost less: noise
        ({2: 4.0, 4: 8.4, 8: 17.0}, (0.0, 2.08)),
        ({3: 6.0}, (0.0, 2.0)),
        ({1: 0.0, 3: 0.0}, (0.0, 0.0)),
    ],
)
def test_a_line_through_times(seconds: dict[int, float], expected: tuple[float, float]) -> None:
    fixed, each = line(seconds)
    assert (fixed, each) == (
        pytest.approx(expected[0], rel=0.02, abs=1e-9),
        pytest.approx(expected[1], rel=0.02, abs=1e-9),
    )


def test_a_slow_start_is_handover_and_the_plan_has_it(
    wide: Path, text: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 ms before every layer's first launch: in the profile of a layer, in no stage, and in what is predicted."""
    run = Overlapped.__call__

    def late(*arguments: object) -> None:
        time.sleep(0.02)
        run(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Overlapped, "__call__", late)
    with open_pipelined(wide, PipelineOptions(scales="rank")) as session:
        profile = measure_profile(session, text, (64, 100), PipelineOptions(), 2)
        for time_of in profile.cpu:
            assert 0.015 < time_of.handover_seconds < 0.05
            assert time_of.group_seconds + time_of.select_seconds + time_of.attend_seconds < 0.01
        model = read_manifest(wide).model
        planned = problem(profile, model, Shape(16, 64, 64), (0,) * model.num_heads)
        assert planned.handover_seconds == profile.cpu[0].handover_seconds
        assert problem(profile, model, Shape(16, 64, 64), (0,) * model.num_heads, depth=1).handover_seconds == 0
        session.use_pipeline(session.make_pipeline(PipelineOptions(scales="rank", profile=profile)))
        session.reset()
        session.prefill(text[:100])
        chunks = list(session.pipelined.record.chunks)
        assert all(chunk.predicted is not None and chunk.predicted > 2 * 0.015 for chunk in chunks)
        assert statistics.median(chunk.measured for chunk in chunks) > 2 * 0.02
