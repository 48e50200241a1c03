"""`shadowattn profile`, `schedule` and `generate --npu`: the pipeline from the command line."""

import json
import re
import signal
from pathlib import Path
from typing import Any

import perfetto_reader
import pytest
from claiming import ClaimingLibrary
from cli_runner import Outcome, run, write_speaking_bundle
from pipelines import change_grid, scaled

from shadowattn.runtime.pipeline.gantt import can_plot
from shadowattn.runtime.pipeline.profile import default_path, read_profile
from shadowattn.runtime.pipeline.stages import Stages

SPARSE = ("--keep_ratio=0.3", "--num_threads=2")
PROMPT = ("--prompt=" + "a long enough prompt " * 8, "--max_new_tokens=2", *SPARSE)
PIPELINED = "of the pipelined executor"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_speaking_bundle(tmp_path / "tiny.bundle")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("profile", "wanted a bundle"),
        ("profile b --kv_lens=x", "--kv_lens: wanted positive numbers such as 1024,4096, got 'x'"),
        ("profile b --output=/nowhere/at/all", "--output: wanted a file in a folder that exists"),
        ("profile b --executor=fused", f"profile is {PIPELINED}; leave out --executor=fused"),
        ("profile b --planner=fifo", "unknown flag --planner"),
        ("schedule b --png=/nowhere/at/all.png", "--png: wanted a file in a folder that exists"),
        ("schedule b --trace=/nowhere/at/all", "--trace: wanted a file in a folder that exists"),
        ("schedule b --executor=fused", f"schedule is {PIPELINED}; leave out --executor=fused"),
        ("schedule b --planner=johnson", "should be one of <best|fifo|greedy|off>"),
        ("bench b --npu=host", "unknown flag --npu"),
        ("generate b --prompt=x --executor=fused --npu=host", f"--npu is {PIPELINED}"),
        ("generate b --prompt=x --executor=fused --trace=x", "--trace records the pipelined executor"),
        ("generate b --prompt=x --npu=host --trace=/nowhere/at/all", "--trace: wanted a file in a folder that exists"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], bundle: Path, command: str, message: str) -> None:
    outcome = run(capsys, *(bundle if word == "b" else word for word in command.split()))
    assert outcome.code == 2
    assert message in outcome.error


def schedule(capsys: pytest.CaptureFixture[str], bundle: Path, *args: str) -> tuple[dict[str, Any], Outcome]:
    """What --json and what people get."""
    words = ("schedule", bundle, "--kv_len=200", "--keep_ratio=0.3", *args)
    outcome = run(capsys, *words, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out), run(capsys, *words)


def check_trace(path: Path) -> set[str]:
    """The CPU's stages. Every event is a slice, for both ways to make nanoseconds of a file's times: graphs, ops and
    waits of both workers, at most three deep: chunk, groups of a layer, a stage."""
    text = path.read_text("utf-8")
    for to_ns in (round, int):
        threads = perfetto_reader.read(text, to_ns)
        events = [event for event in json.loads(text)["traceEvents"] if event["ph"] == "X"]
        assert sum(map(len, threads.values())) == len(events) > 0
    cpu, host = threads.pop("cpu"), threads.pop("host INT8")
    assert not threads
    assert {(one.name, one.depth) for one in host} == {("estimate", 0), ("wait_slot", 0)}
    assert {one.name for one in cpu if one.depth == 0} == {"total"}
    assert max(one.depth for one in cpu) == 2
    return {one.name for one in cpu}


def test_profile_lies_beside_the_bundle_and_schedule_uses_it(
    capsys: pytest.CaptureFixture[str], bundle: Path, tmp_path: Path
) -> None:
    outcome = run(capsys, "profile", bundle, "--kv_lens=100,200", "--runs=2", *SPARSE)
    assert outcome.code == 0, outcome.err
    assert "estimates: host INT8" in outcome.out
    assert "NPU" not in outcome.out
    path = default_path(bundle)
    profile = read_profile(path)
    assert [(time.kv_len, time.heads) for time in profile.launch] == [(n, h) for n in (100, 200) for h in (1, 2, 4)]
    trace, picture = tmp_path / "chunk.json", tmp_path / "plan.png"
    args = ("--runs=2", f"--trace={trace}", "--num_threads=2", *([f"--png={picture}"] if can_plot() else []))
    report, text = schedule(capsys, bundle, *args)
    assert report["source"] == profile.source
    assert sorted(head for group in report["groups"] for head in group["heads"]) == [0, 1, 2, 3]
    assert not can_plot() or picture.read_bytes().startswith(b"\x89PNG")
    assert "attend" in check_trace(trace)
    assert "scales: rank-invariant, one graph for all heads" in text.out
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_sha256": "0" * 64}))
    asked = run(capsys, "schedule", bundle, f"--profile={path}", "--kv_len=200", *SPARSE)
    assert (asked.code, "it was measured with bundle" in asked.error) == (1, True)
    report, text = schedule(capsys, bundle, *args, "--planner=off")
    assert not report["overlaps"]
    assert "a layer (one after the other" in text.out
    assert text.err.count(f"{path.name} is not used: it was measured with bundle") == 1
    assert report["source"].startswith("2 runs of each launch size")  # measured now


def test_schedule_says_what_the_chunk_took_and_did(
    capsys: pytest.CaptureFixture[str], bundle: Path, claiming: ClaimingLibrary
) -> None:
    """200 positions: three chunks below min_k, which launch nothing, then eight, and the last is run twice."""
    report, text = schedule(
        capsys, bundle, "--num_threads=2", "--runs=2", "--scales=nearest", f"--npu={claiming.npu()}"
    )
    assert report["overlaps"]
    assert report["layer"] in (0, 1)
    assert 0 < report["layer_ms"] < report["chunk_ms"]
    assert report["chunk_predicted_ms"] > report["layer_predicted_ms"]
    assert sum(report["chunk_ms_of_runs"]) / 2 == pytest.approx(report["chunk_ms"])
    assert [sum(head) for head in report["buckets"]] == [2 * 2] * 4  # layers x runs
    assert not any(head[0] for head in report["buckets"])
    assert all(report["buckets"][head][group["bucket"]] for group in report["groups"] for head in group["heads"])
    plans = report["schedules"]
    assert plans["made"] + plans["reused"] == 2 * (8 + 2)  # layers x chunks
    assert plans["made"] > 0 < plans["ms"]
    assert sum(row["invokes"] for row in report["delegation"]) >= 2 * len(report["groups"])
    assert {row["delegated"] for row in report["delegation"]} == {"taken"}
    assert all(row["graph"].startswith("estimate_16_256_") for row in report["delegation"])
    for line in ("a layer: ", "the chunk: ", "planning: ", "scale buckets by head", "  head 3: ", "taken"):
        assert line in text.out, text


def test_a_delegate_runs_the_estimates_of_a_prompt(
    capsys: pytest.CaptureFixture[str], bundle: Path, tmp_path: Path, claiming: ClaimingLibrary
) -> None:
    """Taken whole: nothing is said. Not at all: a warning names the graph. Required: an error."""
    host = run(capsys, "generate", bundle, *PROMPT, "--npu=host", "--stats", f"--trace={tmp_path / 'run.json'}")
    assert host.code == 0, host.err
    assert re.search(r"\d+ launches by host INT8, gain \d\.\d\d of at most 1\.\d\d\]", host.err)
    stages = {"total", "linear", "append", "groups", "attend", "copy", "wait_scores"}
    assert check_trace(tmp_path / "run.json") == stages
    taken = run(capsys, "generate", bundle, *PROMPT, f"--npu={claiming.npu()}", "--require_npu")
    assert (taken.code, taken.out) == (0, host.out)
    left = run(capsys, "generate", bundle, *PROMPT, f"--npu={claiming.npu('claim=none')}")
    assert (left.code, left.out) == (0, host.out)
    assert "runs on the CPU as host INT8" in left.err
    required = run(capsys, "generate", bundle, *PROMPT, f"--npu={claiming.npu('claim=none')}", "--require_npu")
    assert (required.code, "which require_npu forbids" in required.err) == (1, True)
    assert "the host is not one" in run(capsys, "generate", bundle, *PROMPT, "--npu=host", "--require_npu").err


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize(
    "command",
    [("generate", "--executor=pipelined", *PROMPT), ("schedule", "--kv_len=160", *SPARSE)],
    ids=["generate", "schedule"],
)
def test_a_trace_is_written_after_ctrl_c_and_errors(
    capsys: pytest.CaptureFixture[str], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...], error: type[BaseException],
) -> None:  # fmt: skip
    """What was recorded until then, chunks that had not ended included."""
    assert run(capsys, "profile", bundle, "--kv_lens=160", "--runs=1", *SPARSE).code == 0
    attend, calls = Stages.attend, iter(range(10**6))

    def failing(*arguments: Any) -> None:
        if arguments[1].position >= 144 and next(calls) == 3:
            raise error
        attend(*arguments)

    monkeypatch.setattr(Stages, "attend", failing)
    outcome = run(capsys, command[0], bundle, *command[1:], f"--trace={tmp_path / 'run.json'}")
    assert outcome.code == (128 + signal.SIGINT if error is KeyboardInterrupt else 1)
    check_trace(tmp_path / "run.json")


def test_an_answer_says_which_scales_the_grid_lacks(capsys: pytest.CaptureFixture[str], bundle: Path) -> None:
    """All scales of the grid a thousandth: every head's lie above, and its elements are clamped."""
    change_grid(bundle, lambda grid: scaled(grid, 1e-3))
    told = run(capsys, "generate", bundle, *PROMPT, "--scales=nearest")
    assert re.search(r"shadowattn: \d+ scales outside every bucket \([\d,]+ elements clamped\)", told.err)
    facts = json.loads(run(capsys, "generate", bundle, *PROMPT, "--scales=nearest", "--json").out)["pipeline"]
    assert facts["outside"] > 0 < facts["clamped"]
    assert (facts["estimates"], facts["launches"] > 0) == ("host INT8", True)
    assert "outside every bucket" not in run(capsys, "generate", bundle, *PROMPT, "--scales=rank").err
    dense = run(capsys, "generate", bundle, *PROMPT, "--planner=fifo", "--mode=dense", "--stats")
    assert "no estimate was launched" in dense.err
    assert json.loads(run(capsys, "generate", bundle, *PROMPT, "--json").out)["pipeline"] is None
