"""What the pipelined executor records and measures: chunks, buckets, predictions, totals, spans and a profile."""

import re
from pathlib import Path

import numpy as np
import pytest
from claiming import ClaimingLibrary
from pipelines import change_grid, invented_profile, one_after_the_other, open_pipelined, outcome, scaled
from tiny_bundle import write_tiny_bundle

from shadowattn.models.bundle import read_manifest
from shadowattn.runtime.pipeline.estimates import Estimator
from shadowattn.runtime.pipeline.measure import ChunkRun, measure_profile, run_chunk
from shadowattn.runtime.pipeline.options import NpuChoice, PipelineOptions
from shadowattn.runtime.pipeline.record import ChunkRecord, PipelineRecord
from shadowattn.runtime.pipeline.trace import Span


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
        assert record.totals() == {"launches": 0, "gain": None, "bound": None, "clamped": 0, "outside": 0}


def test_totals_are_of_all_chunks_however_many(wide: Path) -> None:
    """Only the latest chunks are kept."""
    model = read_manifest(wide).model
    record, found = PipelineRecord(model, 1), (np.zeros(model.num_heads, np.int32), 5, 0)
    for _ in range(5000):
        record.add(ChunkRecord(16, 64, 64, 3, None, measured=2.0, estimate=1.0, attend=2.0), [found])
    assert len(record.chunks) < 5000
    totals = record.totals()
    assert (totals["launches"], totals["clamped"]) == (3 * 5000, 5 * 5000)
    assert (totals["gain"], totals["bound"]) == (1.5, 1.5)


@pytest.mark.parametrize(
    "settings",
    [{"mode": m} for m in ("dense", "int8", "float_estimate", "block_sparse")] + [{"keep_ratio": 1.0}],
    ids=str,
)
def test_modes_that_read_no_scores_launch_nothing(
    wide: Path, text: list[int], settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Estimator, "runner", lambda *_: pytest.fail("a graph was asked for"))
    with open_pipelined(wide, PipelineOptions(), **settings) as session:  # type: ignore[arg-type]
        session.prefill(text[:40])
        assert not session.pipelined.record.chunks
        assert not session.pipelined.record.buckets.any()
        with pytest.raises(ValueError, match=r"launch no estimate in mode \w+: wanted a sparse mode"):
            run_chunk(session, text[40:56])


@pytest.mark.parametrize(("factor", "clamps"), [(1e-3, True), (1e3, False)])
def test_heads_outside_the_grid(tmp_path: Path, text: list[int], factor: float, clamps: bool) -> None:
    """All scales a thousandth: every query and KV head lies above, and elements are clamped; a thousandfold: below."""
    bundle = tmp_path / "bundle"
    model = write_tiny_bundle(bundle).model
    with open_pipelined(bundle, PipelineOptions(scales="nearest")) as session:
        session.prefill(text[:32])
        inside = session.pipelined.record.outside
    change_grid(bundle, lambda grid: scaled(grid, factor))
    with open_pipelined(bundle, PipelineOptions(scales="nearest")) as session:
        session.prefill(text[:32])
        record = session.pipelined.record
        chunks = len(record.chunks)
        assert record.outside == chunks * model.num_layers * (model.num_heads + model.num_kv_heads) > inside
        assert bool(record.clamped) == clamps
        assert (record.buckets[..., 9 if clamps else 1] == chunks).all()
        session.use_pipeline(session.make_pipeline(PipelineOptions(scales="rank")))
        session.prefill(text[32:48])
        assert (session.pipelined.record.clamped, session.pipelined.record.outside) == (0, 0)


# --- profiles ---


def test_predicted_with_a_profile_only(wide: Path, text: list[int]) -> None:
    """A text's shorter last chunk, which was not profiled, is planned without and runs all the same."""
    with open_pipelined(wide, PipelineOptions(scales="rank", profile=invented_profile(wide))) as session:
        assert outcome(session, text[:21]).same_bits(one_after_the_other(wide, text[:21], "rank"))
        session.reset_stats()
        session.reset()
        session.prefill(text[:64])
        session.prefill(text[64:68])
        chunks = list(session.pipelined.record.chunks)
        assert [chunk.chunk for chunk in chunks] == [16] * 4 + [4]
        # Whole: two layers of the shortest schedule, which cannot be shorter than a launch of all heads and one attend.
        assert all(chunk.predicted is not None and chunk.predicted > 2 * 2e-3 for chunk in chunks[:4])
        assert chunks[4].predicted is None
        assert sum(session.pipelined.planner.kept.cache_info()[:2]) == 2 * (2 + 5)


@pytest.mark.parametrize(("planner", "num_threads"), [("off", 2), ("best", 1)])
def test_without_overlap_nothing_is_gained_or_predicted_to_be(
    wide: Path, text: list[int], planner: str, num_threads: int
) -> None:
    """A launch of all six heads is the cheapest: 2.2 ms, then 6 x 0.8 ms, in two layers."""
    options = PipelineOptions(scales="rank", profile=invented_profile(wide), planner=planner)
    with open_pipelined(wide, options, num_threads) as session:
        session.prefill(text[:64])
        assert not session.pipelined.overlaps
        assert "wait_scores" not in session.stats().seconds
        assert all(chunk.gained <= 1 for chunk in session.pipelined.record.chunks)
        assert session.pipelined.record.chunks[-1].predicted == pytest.approx(2 * 7e-3)
        assert [len(schedule.groups) for schedule in session.pipelined.schedules] == [1, 1]


def test_means_by_hand() -> None:
    """Two layers of two groups: estimates 1 + 1, attends 2 + 2, which need 5 seconds with two buffers; they took 6.5
    and 5."""
    spans = []
    for layer, (start, took) in enumerate(((10.0, 6.5), (20.0, 5.0))):
        for group in range(2):
            about = {"layer": layer, "group": group}
            spans.append(Span("graph", "estimate", "npu", start + group, start + group + 1, about))
            spans.append(Span("op", "attend", "cpu", start + 1 + 2 * group, start + 3 + 2 * group, about))
        spans.append(Span("op", "groups", "cpu", start, start + took))
    run = ChunkRun(ChunkRecord(16, 64, 64, 4, None, 11.5, 4.0, 8.0), np.zeros(1), tuple(spans))
    assert run.means(2) == pytest.approx((1.0, 2.0, 0.75 / 2))
    assert run.means(1) == pytest.approx((1.0, 2.0, 0.5 / 4))  # one after the other the first needs 6


def test_a_profile_is_measured_and_predicts(wide: Path, text: list[int], claiming: ClaimingLibrary) -> None:
    """A launch that takes 5 ms by the test delegate is what the profile says and what is predicted."""
    npu = NpuChoice.parse(claiming.npu("delay_ms=5"))
    with open_pipelined(wide, PipelineOptions(npu, scales="rank")) as session:
        names: list[str] = []
        profile = measure_profile(session, text, (64, 100), PipelineOptions(npu), 2, names.append)
        assert [(time.kv_len, time.seq_len, time.heads) for time in profile.launch] == [
            (length, bucket, heads) for length, bucket in ((64, 64), (100, 256)) for heads in (1, 2, 6)
        ]  # 4 of 6 heads are no way to cover them all
        assert sorted(names) == sorted(["1", "2", "6"] * 3 * 2)
        assert all(time.estimate_seconds > 5e-3 for time in profile.launch)
        session.use_pipeline(session.make_pipeline(PipelineOptions(npu, scales="rank", profile=profile)))
        session.reset()
        session.prefill(text[:100])
        assert all((chunk.predicted or 0) > 2 * 5e-3 for chunk in session.pipelined.record.chunks if chunk.chunk == 16)


# --- spans ---


@pytest.mark.parametrize("planner", ["best", "off"])
def test_spans(wide: Path, text: list[int], planner: str) -> None:
    with open_pipelined(wide, PipelineOptions(planner=planner, scales="nearest")) as session:
        with session.pipelined.clock.recording() as spans:
            session.prefill(text[:40])
            session.decode(1)
        seconds = dict(session.pipelined.seconds)
        session.decode(1)
        record = session.pipelined.record
    found = {(span.worker, span.kind, span.name) for span in spans}
    expected = {
        ("cpu", "graph", "total"), ("cpu", "graph", "linear"), ("cpu", "op", "append"), ("cpu", "op", "attend"),
        ("cpu", "op", "groups"), ("cpu", "op", "copy"), ("host INT8", "graph", "estimate"),
    }  # fmt: skip
    waits = {("cpu", "wait", "wait_scores"), ("host INT8", "wait", "wait_slot")}
    assert found == (expected | waits if planner == "best" else expected)
    for stage, took in seconds.items():
        assert took == pytest.approx(sum(span.seconds for span in spans if span.name == stage))
    launches = sorted((span for span in spans if span.name == "estimate"), key=lambda span: span.start)
    attended = sorted((s for s in spans if s.name == "attend" and "heads" in s.args), key=lambda span: span.start)
    assert len(launches) == sum(chunk.launches for chunk in record.chunks) == len(attended)
    for layer in range(2):
        for stage in (launches, attended):
            heads = [head for span in stage if span.args["layer"] == layer for head in span.args["heads"]]
            assert sorted(heads) == sorted([*range(6)] * len(record.chunks))
    for launch, attend in zip(launches, attended, strict=True):  # each group's scores before its attend
        assert (launch.args["layer"], launch.args["heads"]) == (attend.args["layer"], attend.args["heads"])
        assert launch.end <= attend.start
        assert re.fullmatch(rf"estimate_\d+_64_{len(launch.args['heads'])}_[1-9]", launch.args["graph"])
