"""`shadowattn profile`, `schedule`, `bench --ablation` and `generate --npu`: the pipeline from the command line."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from claiming import ClaimingLibrary
from cli_runner import run, write_speaking_bundle

from shadowattn.models.plan import FILE_NAME as PLAN
from shadowattn.models.plan import Plan
from shadowattn.models.scale_grid import ScaleGrid
from shadowattn.runtime.pipeline.profiles import default_path
from shadowattn.runtime.scheduling.profile import read_profile
from shadowattn.runtime.tracing.balance import check_balance
from shadowattn.runtime.tracing.gantt import can_plot

THREADS = "--num_threads=2"
SPARSE = ("--keep_ratio=0.3", THREADS)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_speaking_bundle(tmp_path / "tiny.bundle")


@pytest.mark.parametrize(
    ("command", "args", "message"),
    [
        ("profile", [], "wanted a bundle"),
        ("profile", ["b", "--kv_lens=x"], "--kv_lens: wanted positive numbers such as 1024,4096, got 'x'"),
        ("profile", ["b", "--output=/nowhere/at/all"], "--output: wanted a file in a folder that exists"),
        ("schedule", ["b", "--soc=x", "--trace=y"], "--trace is of a measured chunk, --soc runs nothing"),
        ("schedule", ["b", "--png=/nowhere/at/all.png"], "--png: wanted a file in a folder that exists"),
        ("schedule", ["b", "--soc=x", "--scales=one"], "--scales is measured of a chunk, --soc runs nothing"),
        ("schedule", ["b", "--executor=fused"], "schedule is of the pipelined executor; leave out --executor=fused"),
        ("profile", ["b", "--executor=fused"], "profile is of the pipelined executor; leave out --executor=fused"),
        ("profile", ["b", "--scales=one"], "Unknown command line flag 'scales'"),
        ("profile", ["b", "--planner=fifo"], "Unknown command line flag 'planner'"),
        ("profile", ["b", "--profile=x"], "Unknown command line flag 'profile'"),
        (
            "bench",
            ["b", "--trace=x"],
            "--trace records the pipelined executor; add --executor=pipelined, or --ablation",
        ),
        ("bench", ["b", "--trace=/nowhere/at/all"], "--trace: wanted a file in a folder that exists"),
        ("bench", ["b", "--npu=host"], "--npu is of --ablation here; without it bench compares dense with sparse"),
        ("bench", ["b", "--require_npu"], "--require_npu is of --ablation here"),
        ("bench", ["b", "--scales=one"], "--scales is of --ablation here"),
        ("bench", ["b", "--planner=fifo"], "--planner is of --ablation here"),
        ("bench", ["b", "--profile=x"], "--profile is of --ablation here"),
        ("bench", ["b", "--launch_ms=1"], "--launch_ms is of --ablation here"),
        ("bench", ["b", "--ablation", "--executor=fused"], "--ablation is of the pipelined executor"),
        ("bench", ["b", "--ablation", "--planner=fifo"], "--ablation goes through all of --planner by itself"),
        ("bench", ["b", "--ablation", "--scales=one"], "--ablation goes through all of --scales by itself"),
        ("bench", ["b", "--ablation", "--prompt_file=x"], "--prompt_file is not of --ablation, which prefills"),
        ("bench", ["b", "--ablation", "--decode_tokens=3"], "--decode_tokens is not of --ablation"),
        ("generate", ["b", "--prompt=x", "--launch_ms=1"], "Unknown command line flag 'launch_ms'"),
        ("generate", ["b", "--prompt=x", "--executor=fused", "--npu=host"], "--npu is of the pipelined executor"),
        ("generate", ["b", "--prompt=x", "--trace=/nowhere/at/all"], "--trace: wanted a file in a folder that exists"),
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
    assert "host INT8" in outcome.out
    assert "NPU" not in outcome.out
    assert "hand over, a layer, ms" in outcome.out
    profile = read_profile(default_path(bundle))
    assert [time.kv_len for time in profile.cpu] == [100, 200]
    assert {time.heads for time in profile.launch} == {1, 2, 4}
    trace = tmp_path / "chunk.json"
    outcome = run(capsys, "schedule", bundle, "--kv_len=200", "--runs=2", f"--trace={trace}", "--json", *SPARSE)
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert not report["simulated"]
    assert {row["planner"] for row in report["planners"]} >= {"fifo", "greedy", "johnson", "best"}
    assert sorted(head for group in report["plan"]["groups"] for head in group["heads"]) == [0, 1, 2, 3]
    check_balance(json.loads(trace.read_text()))
    text = run(capsys, "schedule", bundle, "--kv_len=200", "--runs=1", *SPARSE).out
    assert "measured: " in text
    assert "scales: rank-invariant, one graph for all heads" in text
    assert "SIMULATED" not in text


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
    assert facts["chunk_predicted_ms"] > report["plan"]["makespan_ms"]
    assert facts["error_percent"] >= 0
    assert sum(facts["chunk_ms_of_runs"]) / 2 == pytest.approx(facts["chunk_ms"])
    assert [sum(head) for head in facts["buckets"]] == [2 * 2] * 4  # layers x runs
    assert not any(head[0] for head in facts["buckets"])
    assert all(facts["buckets"][head][group["bucket"]] for group in report["plan"]["groups"] for head in group["heads"])
    plans = facts["plans"]
    assert plans["made"] + plans["reused"] == 2 * (9 + 2)  # layers x chunks
    assert plans["made"] > 0 < plans["ms"]
    launched = sum(row["invokes"] for row in facts["delegation"])
    assert launched >= 2 * len(report["plan"]["groups"])
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
    stages = sum(slot["end"] - slot["start"] for slot in report["plan"]["slots"])
    assert report["plan"]["makespan_ms"] == pytest.approx(1e3 * stages)
    assert "one after the other" in run(capsys, "schedule", bundle, "--kv_len=200", "--runs=1", flag).out


def test_a_phone_is_simulated_and_says_so(capsys: pytest.CaptureFixture[str], bundle: Path, tmp_path: Path) -> None:
    if not can_plot():
        pytest.skip("matplotlib is not installed")
    picture = tmp_path / "plan.png"
    outcome = run(
        capsys, "schedule", bundle, "--kv_len=200", "--soc=snapdragon_8_gen_3", "--runs=1", f"--png={picture}", *SPARSE
    )
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("SIMULATED: ")
    assert "arXiv 2508.16703" in outcome.out
    assert "measured:" not in outcome.out
    assert picture.read_bytes().startswith(b"\x89PNG")
    phone = ("--kv_len=200", "--soc=snapdragon_8_gen_3", "--runs=1", "--planner=off", "--json", *SPARSE)
    report = json.loads(run(capsys, "schedule", bundle, *phone).out)
    assert "measured" not in report
    stages = sum(slot["end"] - slot["start"] for slot in report["plan"]["slots"])
    assert report["plan"]["makespan_ms"] == pytest.approx(1e3 * stages)
    outcome = run(capsys, "schedule", bundle, "--kv_len=200", f"--soc={tmp_path / 'none.json'}", "--runs=1", *SPARSE)
    assert (outcome.code, "cannot be read as a latency profile" in outcome.err) == (1, True)


def test_another_bundles_profile(capsys: pytest.CaptureFixture[str], bundle: Path, tmp_path: Path) -> None:
    assert run(capsys, "profile", bundle, "--kv_lens=100", "--runs=1", *SPARSE).code == 0
    other = write_speaking_bundle(tmp_path / "other.bundle")
    profile = json.loads(default_path(bundle).read_text())
    profile["bundle"]["model_sha256"] = "0" * 64
    default_path(other).write_text(json.dumps(profile))
    asked = run(capsys, "schedule", other, f"--profile={default_path(other)}", "--kv_len=100", *SPARSE)
    assert asked.code == 1
    assert "the profile was measured with bundle" in asked.error


def test_profiles_that_a_measured_chunk_is_not_compared_with(
    capsys: pytest.CaptureFixture[str], bundle: Path, claiming: ClaimingLibrary
) -> None:
    """Another NPU's: an error where asked for, left aside with a warning where it merely lies there. Simulated ones and
    one without the bundle's chunks: errors."""
    assert run(capsys, "profile", bundle, "--kv_lens=100", "--runs=1", *SPARSE).code == 0
    path = default_path(bundle)
    args = ("schedule", bundle, "--kv_len=100", "--runs=1", *SPARSE)
    asked = run(capsys, *args, f"--npu={claiming.npu()}", f"--profile={path}")
    wanted = f"launches are of host INT8, the session's of delegate {claiming.path.name}; measure again with the same"
    assert (asked.code, wanted in asked.error) == (1, True)
    aside = run(capsys, *args, f"--npu={claiming.npu()}", "--json")
    assert aside.err.count(f"{path.name} is not used: the profile's launches are of host INT8") == 1
    assert json.loads(aside.out)["estimates"] == f"delegate {claiming.path.name}"
    measured = path.read_text()
    path.write_text(json.dumps(json.loads(measured) | {"simulated": True}))
    simulated = "is simulated, and a chunk would be measured; give it as --soc instead"
    assert f"the profile beside the bundle {simulated}" in run(capsys, *args).error
    assert f"the profile {path} {simulated}" in run(capsys, *args, f"--profile={path}").error
    path.write_text(measured)
    with_one = ("schedule", bundle, "--kv_len=100", "--runs=1", "--keep_ratio=0.3", "--num_threads=1")
    conditions = "measured with 2 threads in mode shadow, the session has"
    assert f"{conditions} 1 thread in mode shadow" in run(capsys, *with_one, f"--profile={path}").error
    assert f"{conditions} 2 threads in mode shadow_paper" in run(capsys, *args, "--mode=shadow_paper").err
    path.write_text(measured.replace('"chunk": 16', '"chunk": 4'))
    assert "the profile has no launches for chunks of 16 tokens, it has them for: 4" in run(capsys, *args).error


def test_the_ablation(capsys: pytest.CaptureFixture[str], bundle: Path, tmp_path: Path) -> None:
    trace = tmp_path / "ablation.json"
    args = ("--prompt_lengths=128", "--runs=1", "--launch_ms=0.1", f"--trace={trace}", *SPARSE)
    outcome = run(capsys, "bench", bundle, "--ablation", "--json", *args)
    assert outcome.code == 0, outcome.err
    rows = {row["way"]: row for row in json.loads(outcome.out)["prompts"]["128"]}
    assert sum("EMULATED" in name for name in rows) == 3
    for name, row in rows.items():
        assert row["same_bits"] or "scale" in name or "grid" in name
        assert row["seconds"] > 0
        assert row["bound"] >= 1
        assert 0 <= row["kl"] < 1
    check_balance(json.loads(trace.read_text()))
    text = run(capsys, "bench", bundle, "--ablation", "--prompt_lengths=128", "--runs=1", *SPARSE).out
    assert "EMULATED" not in text
    assert "same bits" in text
    outcome = run(capsys, "bench", bundle, "--ablation", "--prompt_lengths=100", "--runs=1", *SPARSE)
    assert "--prompt_lengths: wanted multiples of 16 up to 256, got 100" in outcome.err


def test_an_answer_says_which_scales_the_grid_lacks(capsys: pytest.CaptureFixture[str], bundle: Path) -> None:
    """All scales of the grid a thousandth: every head's lie above, and its elements are clamped."""
    plan = Plan.from_bytes((bundle / PLAN).read_bytes(), PLAN)
    assert plan.grid is not None
    grid = ScaleGrid(plan.grid.q_scales * 1e-3, plan.grid.k_scales * 1e-3, plan.grid.score_scales * 1e-6)
    (bundle / PLAN).write_bytes(dataclasses.replace(plan, grid=grid).to_bytes())
    prompt = ("--prompt=" + "a long enough prompt " * 8, "--max_new_tokens=2", *SPARSE)
    told = run(capsys, "generate", bundle, *prompt, "--scales=nearest")
    assert re.search(r"of at most \d\.\d\d, \d+ scales outside every bucket \([\d,]+ elements clamped\)\]", told.err)
    facts = json.loads(run(capsys, "generate", bundle, *prompt, "--scales=nearest", "--json").out)["pipeline"]
    assert facts["outside"] > 0 < facts["clamped"]
    assert (facts["estimates"], facts["launches"] > 0) == ("host INT8", True)
    inside = run(capsys, "generate", bundle, *prompt, "--scales=rank").err
    assert "outside every bucket" not in inside
    assert "no estimate was launched" in run(capsys, "generate", bundle, *prompt, "--scales=rank", "--mode=dense").err
    assert json.loads(run(capsys, "generate", bundle, *prompt, "--json").out)["pipeline"] is None


def test_a_delegate_runs_the_estimates_of_a_prompt(
    capsys: pytest.CaptureFixture[str], bundle: Path, tmp_path: Path, claiming: ClaimingLibrary
) -> None:
    """Taken whole: nothing is said. Not at all: a warning names the graph. Required: an error."""
    prompt = ("--prompt=" + "a long enough prompt " * 8, "--max_new_tokens=2", *SPARSE)
    trace = tmp_path / "run.json"
    host = run(capsys, "generate", bundle, *prompt, "--npu=host", f"--trace={trace}")
    assert host.code == 0, host.err
    assert re.search(r"\d+ launches by host INT8, gain \d\.\d\d of at most 1\.\d\d\]", host.err)
    workers = {e["args"]["name"] for e in json.loads(trace.read_text())["traceEvents"] if e["name"] == "thread_name"}
    assert workers == {"cpu", "host INT8"}
    taken = run(capsys, "generate", bundle, *prompt, f"--npu={claiming.npu()}", "--require_npu")
    assert (taken.code, taken.out) == (0, host.out)
    left = run(capsys, "generate", bundle, *prompt, f"--npu={claiming.npu('claim=none')}")
    assert (left.code, left.out) == (0, host.out)
    assert "runs on the CPU as host INT8" in left.err
    required = run(capsys, "generate", bundle, *prompt, f"--npu={claiming.npu('claim=none')}", "--require_npu")
    assert required.code == 1
    assert "which require_npu forbids" in required.err
    refused = run(capsys, "generate", bundle, *prompt, "--npu=host", "--require_npu")
    assert "the host is none" in refused.err
