"""Every way of the pipeline on the tiny bundle: what must be the same is, and emulated launches take their time."""

from pathlib import Path

import pipeline_ablation
import pytest
from tiny_bundle import write_tiny_bundle

from shadowattn.runtime import Session
from shadowattn.runtime.pipeline.options import PipelineOptions

SETTINGS = {"keep_ratio": 0.3, "min_k": 20, "num_threads": 2}


def test_every_way(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path)
    with (
        Session.open(tmp_path, executor="pipelined", **SETTINGS) as session,
        Session.open(tmp_path, **SETTINGS) as fused,
    ):
        ways = pipeline_ablation.ways(session, PipelineOptions(), launch_ms=2.0)
        rows = pipeline_ablation.ablate(session, fused, [i * 7 % 97 for i in range(64)], ways, 1)
        assert [len(executor.record.chunks) for executor in ways.values()] == [3 * 2] * len(ways)
    assert [row["way"] for row in rows] == list(ways)
    for row in rows:
        assert row["same_bits"] or "scale" in row["way"] or "grid" in row["way"]
        assert 0 <= row["kl"] < 1
        assert row["bound"] >= 1
    by_name = {row["way"]: row for row in rows}
    assert by_name["pipeline, no head fusion"]["launches"] == 4
    emulated = by_name["EMULATED +2 ms a launch: pipeline, no head fusion"]
    assert emulated["ms"] > 3 * 2 * 4 * 2.0  # chunks, layers, launches
    assert by_name["one after the other, a launch a layer"]["gain"] == pytest.approx(1)
    assert len(pipeline_ablation.table(rows).splitlines()) == 2 + len(rows)
