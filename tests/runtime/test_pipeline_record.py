"""What the pipelined executor records: chunks, buckets, predictions, overlap and traces."""

import dataclasses
import re
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pipelines import one_after_the_other, open_pipelined, outcome
from tiny_bundle import write_tiny_bundle

from shadowattn.models.bundle import Manifest, read_manifest
from shadowattn.models.plan import FILE_NAME as PLAN
from shadowattn.models.plan import Plan
from shadowattn.models.scale_grid import ScaleGrid
from shadowattn.runtime.executor.stages import Stages
from shadowattn.runtime.npu.graphs import Estimator
from shadowattn.runtime.pipeline.measured import measure_chunk
from shadowattn.runtime.pipeline.options import PipelineOptions
from shadowattn.runtime.pipeline.profiles import identity
from shadowattn.runtime.scheduling.profile import (
    AppendTime,
    Conditions,
    CpuTime,
    LatencyProfile,
    LaunchTime,
    LinearTime,
)
from shadowattn.runtime.tracing.balance import check_balance
from shadowattn.runtime.tracing.perfetto import to_perfetto
from shadowattn.runtime.tracing.trace import Trace


def _profile(manifest: Manifest, chunk: int = 16, heads: tuple[int, ...] = (1, 2, 4, 6)) -> LatencyProfile:
    """Invented figures, to plan with: more heads in a launch cost less than the same heads apart."""
    return LatencyProfile(
        machine="none",
        npu="host INT8",
        simulated=True,
        source="a test's invention",
        launch=tuple(LaunchTime(chunk, 64, count, 1e-3 + 2e-4 * count) for count in heads),
        cpu=(CpuTime(chunk, 64, 1e-4, 7e-4, 0.0),),
        linear=(LinearTime(chunk, 1e-3),),
        append=(AppendTime(chunk, 64, 1e-4),),
        bundle=identity(manifest),
        conditions=Conditions(2, "shadow"),
    )


def test_the_record(wide: Path, text: list[int]) -> None:
    """min_k 20: the first chunk of 16 reads no scores and launches nothing; decoding launches nothing."""
    with open_pipelined(wide, PipelineOptions(heads=(2,)), min_k=20) as session:
        session.prefill(text[:80])
        for token in text[80:83]:
            session.decode(token)
        record, model = session.pipelined.record, session.manifest.model
        assert [(chunk.chunk, chunk.seq_len, chunk.kv_len) for chunk in record.chunks] == [
            (16, 64, 32), (16, 64, 48), (16, 64, 64), (16, 256, 80)
        ]  # fmt: skip
        for chunk in record.chunks:
            assert chunk.launches == 3 * model.num_layers
            assert chunk.predicted is None
            assert 1 <= chunk.bound <= 2
            assert chunk.gained > 0
            # Beside what each worker does there is only handing over.
            assert chunk.measured >= 0.999 * max(chunk.estimate, chunk.attend)
        assert (record.buckets.sum(-1) == 4).all()
        totals = record.totals()
        assert totals["launches"] == 4 * 3 * model.num_layers
        assert totals["gain"] <= 1.001 * totals["bound"]
        assert min(chunk.gained for chunk in record.chunks) <= totals["gain"] <= 2
        seconds = session.stats().seconds
        assert seconds["groups"] == pytest.approx(sum(chunk.measured for chunk in record.chunks))
        session.reset_stats()
        assert not record.chunks
        assert not record.buckets.any()


def test_one_after_the_other_gains_nothing(wide: Path, text: list[int]) -> None:
    """planner=off, and the host with one thread."""
    for options, num_threads in ((PipelineOptions(planner="off"), 2), (PipelineOptions(), 1)):
        with open_pipelined(wide, options, num_threads) as session:
            session.prefill(text[:80])
            assert not session.pipelined.overlaps
            assert "wait_scores" not in session.stats().seconds
            assert all(chunk.gained <= 1 for chunk in session.pipelined.record.chunks)
            assert not [thread for thread in threading.enumerate() if thread.name == "shadowattn-estimate"]


def test_work_overlaps(wide: Path, text: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulated launches, and an attend that sleeps as long: both at once take little more than either."""
    attend = Stages.attend

    def slowly(*arguments: object) -> None:
        time.sleep(5e-3)
        attend(*arguments)  # type: ignore[arg-type]

    with open_pipelined(wide, PipelineOptions(heads=(1,), launch_ms=5)) as session:
        session.prefill(text[:16])
        session.reset_stats()
        monkeypatch.setattr(Stages, "attend", slowly)
        session.prefill(text[16:48])
        for chunk in session.pipelined.record.chunks:
            assert 1.2 < chunk.gained <= 1.001 * chunk.bound


@pytest.mark.parametrize("mode", ["dense", "int8", "float_estimate", "block_sparse"])
def test_modes_that_read_no_scores_launch_nothing(
    wide: Path, text: list[int], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Estimator, "runner", lambda *_: pytest.fail("a graph was asked for"))
    with open_pipelined(wide, PipelineOptions(), mode=mode) as session:
        session.prefill(text[:40])
        assert not session.pipelined.record.chunks
        assert not session.pipelined.record.buckets.any()


def test_all_kept_launches_nothing(wide: Path, text: list[int]) -> None:
    with open_pipelined(wide, PipelineOptions(), keep_ratio=1.0) as session:
        session.prefill(text[:40])
        assert not session.pipelined.record.chunks


@pytest.mark.parametrize(("factor", "clamps"), [(1e-3, True), (1e3, False)])
def test_heads_outside_the_grid(tmp_path: Path, text: list[int], factor: float, clamps: bool) -> None:
    """All scales a thousandth: every query and KV head lies above, and elements are clamped; a thousandfold: below."""
    bundle = tmp_path / "bundle"
    model = write_tiny_bundle(bundle).model
    plan = Plan.from_bytes((bundle / PLAN).read_bytes(), "plan")
    grid = plan.grid
    assert grid is not None
    with open_pipelined(bundle, PipelineOptions(scales="nearest")) as session:
        session.prefill(text[:32])
        inside = session.pipelined.record.outside
    q, k, scores = grid.q_scales * factor, grid.k_scales * factor, grid.score_scales * factor**2
    scaled = ScaleGrid(q, k, scores)  # with the same multipliers, and so the same graphs
    (bundle / PLAN).write_bytes(dataclasses.replace(plan, grid=scaled).to_bytes())
    with open_pipelined(bundle, PipelineOptions(scales="nearest")) as session:
        session.prefill(text[:32])
        record = session.pipelined.record
        chunks = len(record.chunks)
        assert record.outside == chunks * model.num_layers * (model.num_heads + model.num_kv_heads) > inside
        assert bool(record.clamped) == clamps
        assert record.totals()["outside"] == record.outside
        assert (record.buckets[..., 9 if clamps else 1] == chunks).all()
        session.configure(mode="shadow")
        session.use_pipeline(session.make_pipeline(PipelineOptions(scales="rank")))
        session.prefill(text[32:48])
        assert (session.pipelined.record.clamped, session.pipelined.record.outside) == (0, 0)


# --- profiles ---


def test_predicted_with_a_profile_only(wide: Path, text: list[int]) -> None:
    """A text's shorter last chunk, which was not profiled, is planned without and runs all the same."""
    profile = _profile(read_manifest(wide))
    with open_pipelined(wide, PipelineOptions(scales="rank", profile=profile)) as session:
        assert outcome(session, text[:21]).same_bits(one_after_the_other(wide, text[:21], "rank"))
        session.reset_stats()
        session.reset()
        session.prefill(text[:64])
        session.prefill(text[64:68])
        chunks = list(session.pipelined.record.chunks)
        assert [chunk.chunk for chunk in chunks] == [16] * 4 + [4]
        # Whole: two layers of the shortest plan, which cannot be shorter than a launch of all heads and one attend.
        assert all(chunk.predicted is not None and chunk.predicted > 2 * 2e-3 for chunk in chunks[:4])
        assert chunks[4].predicted is None


@pytest.mark.parametrize("options", [{"planner": "off"}, {"num_threads": 1}], ids=str)
def test_without_overlap_the_sum_is_predicted(wide: Path, text: list[int], options: dict[str, Any]) -> None:
    """A launch of all six heads is the cheapest: 2.2 ms, then 6 x 0.8 ms, in two layers."""
    threads = options.pop("num_threads", 2)
    profile = _profile(read_manifest(wide))
    with open_pipelined(wide, PipelineOptions(scales="rank", profile=profile, **options), threads) as session:
        session.prefill(text[:64])
        assert session.pipelined.record.chunks[-1].predicted == pytest.approx(2 * 7e-3)
        assert [len(schedule.groups) for schedule in session.pipelined.schedules] == [1, 1]


def test_a_measured_chunk(wide: Path, text: list[int]) -> None:
    """Its spans are of the layer that took the median time; its error is of whole chunks, against the plan."""
    options = PipelineOptions(scales="rank", profile=_profile(read_manifest(wide)), heads=(2,))
    with open_pipelined(wide, options) as session:
        taken = measure_chunk(session, text[:64], 16, 3)
        session.configure(mode="dense")
        with pytest.raises(ValueError, match=r"no estimate was launched in mode dense: wanted a sparse mode"):
            measure_chunk(session, text[:64], 16, 1)
    assert (len(taken.layers), len(taken.records), len(taken.schedules)) == (6, 3, 2)
    layer, spans = taken.middle_layer()
    assert {span.args["layer"] for span in spans if span.kind != "wait"} == {layer}
    groups = [tuple(span.args["heads"]) for span in spans if span.name == "attend"]
    assert sorted(groups) == sorted(group.heads for group in taken.schedules[layer].groups)
    predicted = sum(schedule.makespan for schedule in taken.schedules)
    errors = [abs(predicted - record.measured) / record.measured for record in taken.records]
    assert taken.error() == pytest.approx(statistics.median(errors))
    with open_pipelined(wide, PipelineOptions()) as session, pytest.raises(ValueError, match="nothing was predicted"):
        measure_chunk(session, text[:64], 16, 1).error()


# --- traces ---


@pytest.mark.parametrize("planner", ["best", "off"])
def test_a_trace(wide: Path, text: list[int], planner: str) -> None:
    with open_pipelined(wide, PipelineOptions(planner=planner, scales="nearest", depth=1)) as session:
        session.pipelined.clock.trace = trace = Trace()
        session.prefill(text[:40])
        session.decode(1)
        record = session.pipelined.record
        session.pipelined.clock.trace = None
        session.decode(1)
    spans = trace.spans()
    check_balance(to_perfetto(spans, simulated=False))
    found = {(span.worker, span.kind, span.name) for span in spans}
    expected = {
        ("cpu", "graph", "total"), ("cpu", "graph", "linear"), ("cpu", "op", "append"), ("cpu", "op", "attend"),
        ("cpu", "op", "groups"), ("cpu", "op", "copy"), ("host INT8", "graph", "estimate"),
    }  # fmt: skip
    waits = {("cpu", "wait", "wait_scores"), ("host INT8", "wait", "wait_slot")}
    assert found == (expected | waits if planner == "best" else expected)
    launches = [span for span in spans if span.name == "estimate"]
    attended = [span for span in spans if span.name == "attend" and "heads" in span.args]
    assert len(launches) == sum(chunk.launches for chunk in record.chunks) == len(attended)
    for layer in range(2):
        for stage in (launches, attended):
            heads = [head for span in stage if span.args["layer"] == layer for head in span.args["heads"]]
            assert sorted(heads) == sorted([*range(6)] * len(record.chunks))
    for launch, attend in zip(launches, attended, strict=True):  # each group's scores before its attend
        assert (launch.args["layer"], launch.args["heads"]) == (attend.args["layer"], attend.args["heads"])
        assert launch.end <= attend.start
        assert re.fullmatch(rf"estimate_\d+_64_{len(launch.args['heads'])}_[1-9]", launch.args["graph"])
