"""`shadowattn profile`, `schedule` and `generate --npu`: the pipeline from the command line."""

import dataclasses
import json
import re
import signal
from pathlib import Path
from typing import Any

import perfetto_reader
import pytest
from claiming import ClaimingLibrary
from cli_runner import run, write_speaking_bundle

from shadowattn.models.plan import FILE_NAME as PLAN
from shadowattn.models.plan import Plan
from shadowattn.models.scale_grid import ScaleGrid
from shadowattn.runtime.pipeline.gantt import can_plot
from shadowattn.runtime.pipeline.profile import default_path, read_profile
from shadowattn.runtime.pipeline.stages import Stages

SPARSE = ("--keep_ratio=0.3", "--num_threads=2")
PROMPT = ("--prompt=" + "a long enough prompt " * 8, "--max_new_tokens=2", *SPARSE)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_speaking_bundle(tmp_path / "tiny.bundle")


@pytest.mark.parametrize(
    ("command", "args", "message"),
    [
        ("profile", [], "wanted a bundle"),
        ("profile", ["b", "--kv_lens=x"], "--kv_lens: wanted positive numbers such as 1024,4096, got 'x'"),
        ("profile", ["b", "--output=/nowhere/at/all"], "--output: wanted a file in a folder that exists"),
        ("schedule", ["b", "--png=/nowhere/at/all.png"], "--png: wanted a file in a folder that exists"),
        ("schedule", ["b", "--trace=/nowhere/at/all"], "--trace: wanted a file in a folder that exists"),
        ("schedule", ["b", "--executor=fused"], "schedule is of the pipelined executor; leave out --executor=fused"),
        ("profile", ["b", "--executor=fused"], "profile is of the pipelined executor; leave out --executor=fused"),
        ("profile", ["b", "--planner=fifo"], "unknown flag --planner"),
        ("schedule", ["b", "--soc=x"], "unknown flag --soc"),
        ("schedule", ["b", "--planner=johnson"], "should be one of <best|fifo|greedy|off>"),
        ("bench", ["b", "--npu=host"], "unknown flag --npu"),
        ("generate", ["b", "--prompt=x", "--executor=fused", "--npu=host"], "--npu is of the pipelined executor"),
        ("generate", ["b", "--prompt=x", "--executor=fused", "--trace=x"], "--trace is of the pipelined executor"),
        (
            "generate",
            ["b", "--prompt=x", "--trace=x"],
            "--trace records the pipelined executor, which is not the default",
        ),
        (
            "generate",
            ["b", "--prompt=x", "--npu=host", "--trace=/nowhere/at/all"],
            "--trace: wanted a file in a folder",
        ),
    ],
)
def test_wrong_usage(
    capsys: pytest.CaptureFixture[str], bundle: Path, command: str, args: list[str], message: str
) -> None:
    outcome = run(capsys, command, *(bundle if arg == "b" else arg for arg in args))
    assert outcome.code == 2
    assert message in outcome.error


def test_profile_lies_beside_the_bundle_and_schedule_uses_it(
    capsys: pytest.CaptureFixture[str], bundle: Path, tmp_path: Path
) -> None:
    outcome = run(capsys, "profile", bundle, "--kv_lens=100,200", "--runs=2", *SPARSE)
    assert outcome.code == 0, outcome.err
    assert "estimates: host INT8" in outcome.out
    assert "NPU" not in outcome.out
    profile = read_profile(default_path(bundle))
    assert [(time.kv_len, time.heads) for time in profile.launch] == [(n, h) for n in (100, 200) for h in (1, 2, 4)]
    trace, picture = tmp_path / "chunk.json", tmp_path / "plan.png"
    drawn = [f"--png={picture}"] if can_plot() else []
    args = ("schedule", bundle, "--kv_len=200", "--runs=2", f"--trace={trace}", *drawn, *SPARSE)
    outcome = run(capsys, *args, "--json")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["source"] == profile.source
    assert sorted(head for group in report["groups"] for head in group["heads"]) == [0, 1, 2, 3]
    assert not drawn or picture.read_bytes().startswith(b"\x89PNG")
    check_trace(trace)
    text = run(capsys, *args).out
    assert "measured: " in text
    assert "scales: rank-invariant, one graph for all heads" in text
    path = default_path(bundle)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_sha256": "0" * 64}))
    asked = run(capsys, "schedule", bundle, f"--profile={path}", "--kv_len=200", *SPARSE)
    assert (asked.code, "it was measured with bundle" in asked.error) == (1, True)
    aside = run(capsys, *args, "--json")
    assert aside.err.count(f"{path.name} is not used: it was measured with bundle") == 1
    assert json.loads(aside.out)["source"].startswith("2 runs of each launch size")  # measured now


def test_schedule_says_what_the_chunk_took_and_did(
    capsys: pytest.CaptureFixture[str], bundle: Path, claiming: ClaimingLibrary
) -> None:
    """200 positions: four chunks below min_k, which launch nothing, then nine, of which the last is run twice more."""
    args = ("--kv_len=200", "--runs=2", "--scales=nearest", *SPARSE)
    outcome = run(capsys, "schedule", bundle, *args, f"--npu={claiming.npu()}", "--json")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    facts = report["measured"]
    assert (facts["overlaps"], facts["runs"]) == (True, 2)
    assert facts["layer"] in (0, 1)
    assert 0 < facts["layer_ms"] < facts["chunk_ms"]
    assert facts["chunk_predicted_ms"] > report["predicted_ms"]
    assert facts["error_percent"] >= 0
    assert sum(facts["chunk_ms_of_runs"]) / 2 == pytest.approx(facts["chunk_ms"])
    assert [sum(head) for head in facts["buckets"]] == [2 * 2] * 4  # layers x runs
    assert not any(head[0] for head in facts["buckets"])
    assert all(facts["buckets"][head][group["bucket"]] for group in report["groups"] for head in group["heads"])
    plans = facts["schedules"]
    assert plans["made"] + plans["reused"] == 2 * (8 + 2)  # layers x chunks
    assert plans["made"] > 0 < plans["ms"]
    assert sum(row["invokes"] for row in facts["delegation"]) >= 2 * len(report["groups"])
    assert {row["delegated"] for row in facts["delegation"]} == {"taken"}
    assert all(row["graph"].startswith("estimate_16_256_") for row in facts["delegation"])
    text = run(capsys, "schedule", bundle, *args).out
    for line in ("the chunk: ", "planning: ", "scale buckets by head", "  head 3: ", "xnnpack"):
        assert line in text, text


@pytest.mark.parametrize("flag", ["--planner=off", "--num_threads=1"])
def test_schedule_without_overlap_predicts_the_sum(capsys: pytest.CaptureFixture[str], bundle: Path, flag: str) -> None:
    outcome = run(capsys, "schedule", bundle, "--kv_len=200", "--runs=1", "--json", "--keep_ratio=0.3", flag)
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert not report["measured"]["overlaps"]
    times = [group["times"] for group in report["groups"]]
    stages = sum(t["estimate_end"] - t["estimate_start"] + t["attend_end"] - t["attend_start"] for t in times)
    assert report["predicted_ms"] == pytest.approx(1e3 * stages)
    assert "one after the other" in run(capsys, "schedule", bundle, "--kv_len=200", "--runs=1", flag).out


def check_trace(path: Path) -> dict[str, list[perfetto_reader.Slice]]:
    """Every event is a slice, for both ways to make nanoseconds of a file's times: graphs, ops and waits of both
    workers, at most three deep: chunk, groups of a layer, a stage."""
    text = path.read_text("utf-8")
    for to_ns in (round, int):
        threads = perfetto_reader.read(text, to_ns)
        events = [event for event in json.loads(text)["traceEvents"] if event["ph"] == "X"]
        assert sum(map(len, threads.values())) == len(events) > 0
    assert set(threads) == {"cpu", "host INT8"}
    assert {one.name for one in threads["host INT8"]} == {"estimate", "wait_slot"}
    assert all(one.depth == 0 for one in threads["host INT8"])
    assert {one.name for one in threads["cpu"] if one.depth == 0} == {"total"}
    assert max(one.depth for one in threads["cpu"]) == 2
    return threads


def test_a_delegate_runs_the_estimates_of_a_prompt(
    capsys: pytest.CaptureFixture[str], bundle: Path, tmp_path: Path, claiming: ClaimingLibrary
) -> None:
    """Taken whole: nothing is said. Not at all: a warning names the graph. Required: an error."""
    trace = tmp_path / "run.json"
    host = run(capsys, "generate", bundle, *PROMPT, "--npu=host", f"--trace={trace}", "--stats")
    assert host.code == 0, host.err
    assert re.search(r"\d+ launches by host INT8, gain \d\.\d\d of at most 1\.\d\d\]", host.err)
    threads = check_trace(trace)
    assert {"linear", "append", "groups", "attend", "copy", "wait_scores"} <= {one.name for one in threads["cpu"]}
    taken = run(capsys, "generate", bundle, *PROMPT, f"--npu={claiming.npu()}", "--require_npu")
    assert (taken.code, taken.out) == (0, host.out)
    left = run(capsys, "generate", bundle, *PROMPT, f"--npu={claiming.npu('claim=none')}")
    assert (left.code, left.out) == (0, host.out)
    assert "runs on the CPU as host INT8" in left.err
    required = run(capsys, "generate", bundle, *PROMPT, f"--npu={claiming.npu('claim=none')}", "--require_npu")
    assert required.code == 1
    assert "which require_npu forbids" in required.err
    refused = run(capsys, "generate", bundle, *PROMPT, "--npu=host", "--require_npu")
    assert "the host is not one" in refused.err


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("command", ["generate", "schedule"])
def test_a_trace_is_written_after_ctrl_c_and_errors(
    capsys: pytest.CaptureFixture[str],
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    error: type[BaseException],
) -> None:
    """What was recorded until then, chunks that had not ended included."""
    assert run(capsys, "profile", bundle, "--kv_lens=160", "--runs=1", *SPARSE).code == 0
    attend, calls = Stages.attend, iter(range(10**6))

    def failing(*arguments: Any) -> None:
        if arguments[1].position >= 144 and next(calls) == 3:
            raise error
        attend(*arguments)

    monkeypatch.setattr(Stages, "attend", failing)
    trace = tmp_path / "run.json"
    args = (*PROMPT, "--executor=pipelined") if command == "generate" else ("--kv_len=160", *SPARSE)
    outcome = run(capsys, command, bundle, *args, f"--trace={trace}")
    assert outcome.code == (128 + signal.SIGINT if error is KeyboardInterrupt else 1)
    check_trace(trace)


def test_an_answer_says_which_scales_the_grid_lacks(capsys: pytest.CaptureFixture[str], bundle: Path) -> None:
    """All scales of the grid a thousandth: every head's lie above, and its elements are clamped."""
    plan = Plan.from_bytes((bundle / PLAN).read_bytes(), PLAN)
    assert plan.grid is not None
    grid = ScaleGrid(plan.grid.q_scales * 1e-3, plan.grid.k_scales * 1e-3, plan.grid.score_scales * 1e-6)
    (bundle / PLAN).write_bytes(dataclasses.replace(plan, grid=grid).to_bytes())
    told = run(capsys, "generate", bundle, *PROMPT, "--scales=nearest")
    assert re.search(r"shadowattn: \d+ scales outside every bucket \([\d,]+ elements clamped\)\n", told.err)
    facts = json.loads(run(capsys, "generate", bundle, *PROMPT, "--scales=nearest", "--json").out)["pipeline"]
    assert facts["outside"] > 0 < facts["clamped"]
    assert (facts["estimates"], facts["launches"] > 0) == ("host INT8", True)
    inside = run(capsys, "generate", bundle, *PROMPT, "--scales=rank").err
    assert "outside every bucket" not in inside
    assert "no estimate was launched" in run(capsys, "generate", bundle, *PROMPT, "--scales=rank", "--mode=dense").err
    assert json.loads(run(capsys, "generate", bundle, *PROMPT, "--json").out)["pipeline"] is None
