"""`shadowattn inspect`."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_runner import run, write_speaking_bundle
from tiny_bundle import write_tiny_bundle

from shadowattn.models.bundle import MANIFEST, MODEL
from shadowattn.models.plan import Plan


@pytest.fixture(scope="module")
def shared_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaking_bundle(tmp_path_factory.mktemp("inspect") / "tiny.bundle")


def test_what_the_files_say(capsys: pytest.CaptureFixture[str], shared_bundle: Path) -> None:
    outcome = run(capsys, "inspect", shared_bundle, "--nonode_assignments")
    assert (outcome.code, outcome.err) == (0, "")
    for text in (
        "licence         Apache-2.0",
        "heads           4 query, 2 KV, head_dim 16",
        "max_length      256 positions",
        "buckets         64, 256 positions (estimate graphs)",
        "stop tokens     1, 3",
        "model.tflite",
        "plan: K centres and scales of 2 layers x 2 KV heads",
    ):
        assert text in outcome.out
    assert any(line.split()[:3] == ["linear", "16", "3"] for line in outcome.out.splitlines())


def test_json(capsys: pytest.CaptureFixture[str], shared_bundle: Path) -> None:
    outcome = run(capsys, "inspect", shared_bundle, "--nonode_assignments", "--json", "--verify")
    report = json.loads(outcome.out)
    assert report["verified"] is True
    assert report["manifest"]["model"]["num_heads"] == 4
    assert report["plan"]["num_layers"] == 2


def test_verify_finds_one_changed_byte(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bundle = write_speaking_bundle(tmp_path / "tiny.bundle")
    assert "every file is as it was written" in run(capsys, "inspect", bundle, "--verify", "--nonode_assignments").out
    data = bytearray((bundle / MODEL).read_bytes())
    data[-1] ^= 1
    (bundle / MODEL).write_bytes(data)
    outcome = run(capsys, "inspect", bundle, "--verify")
    assert outcome.code == 1
    assert "model.tflite: SHA-256 is" in outcome.error
    assert outcome.error.endswith("convert the model again")


def test_what_is_no_bundle(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    outcome = run(capsys, "inspect", tmp_path)
    assert outcome.code == 1
    assert "not a bundle, manifest.json is missing; make one with `shadowattn convert`" in outcome.error
    bundle = write_speaking_bundle(tmp_path / "tiny.bundle")
    (bundle / MODEL).unlink()
    assert "model.tflite is missing" in run(capsys, "inspect", bundle).error
    (bundle / MANIFEST).write_text("{")
    assert "not valid JSON" in run(capsys, "inspect", bundle).error


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "inspect").code == 2
    outcome = run(capsys, "inspect", "a", "b")
    assert outcome.code == 2
    assert "too many arguments: 'b'" in outcome.error


def test_the_estimate_graphs_and_the_grid(capsys: pytest.CaptureFixture[str], shared_bundle: Path) -> None:
    report = json.loads(run(capsys, "inspect", shared_bundle, "--nonode_assignments", "--json").out)["estimates"]
    # Chunks 16 and 4, two lengths, groups of 1, 2 (a KV head's) and 4 heads, 9 buckets and the rank-invariant one.
    assert report["graphs"] == 2 * 2 * 3 * 10
    assert report["bytes"] == (shared_bundle / "estimates.zip").stat().st_size
    grid = Plan.from_bytes((shared_bundle / "plan.bin").read_bytes()).grid
    assert report["grid"]["score_scales"] == grid.score_scales.tolist()
    text = run(capsys, "inspect", shared_bundle, "--nonode_assignments").out
    assert "estimate graphs of head groups: 120 in" in text
    assert f"K {grid.k_scales[2]:.3g}" in text
    assert "prepared on this CPU" not in text


def test_estimates_are_really_prepared(capsys: pytest.CaptureFixture[str], shared_bundle: Path) -> None:
    outcome = run(capsys, "inspect", shared_bundle, "--nonode_assignments", "--json", "--estimates", "--num_threads=1")
    assert outcome.code == 0, outcome.err
    rows = json.loads(outcome.out)["estimates"]["prepared"]
    assert [(row["chunk"], row["heads"], row["seq_len"]) for row in rows] == [
        (16, heads, seq_len) for heads in (1, 2, 4) for seq_len in (64, 256)
    ]
    assert all(row["graphs"] == 10 and row["prepare_ms"] > 0 for row in rows)
    assert "memory of one" in run(capsys, "inspect", shared_bundle, "--nonode_assignments", "--estimates").out


def test_a_damaged_estimate_graph(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bundle = write_speaking_bundle(tmp_path / "tiny.bundle")
    data = bytearray((bundle / "estimates.zip").read_bytes())
    middle = len(data) * 7 // 10  # among those of the longest chunk
    data[middle : middle + 300] = bytes(300)
    (bundle / "estimates.zip").write_bytes(data)
    outcome = run(capsys, "inspect", bundle, "--nonode_assignments", "--estimates")
    assert outcome.code == 1
    assert "convert the model again" in outcome.error


@pytest.mark.parametrize("executor", ["fused", "pipelined"])
def test_node_assignments_each_node(capsys: pytest.CaptureFixture[str], shared_bundle: Path, executor: str) -> None:
    outcome = run(capsys, "inspect", shared_bundle, "--json", "--executor", executor)
    assert (outcome.code, outcome.err) == (0, "")
    nodes = json.loads(outcome.out)["nodes"]
    ours = [node for node in nodes if node["op"].startswith("Shadow")]
    assert bool(ours) == (executor == "fused")  # pipelined: our steps are calls between the graphs
    assert all(node["runner"] == "shadow" for node in ours)
    products = [node for node in nodes if node["op"] in ("FULLY_CONNECTED", "BATCH_MATMUL")]
    assert products
    assert all(node["runner"] == "xnnpack" for node in products)
    wanted = {"prefill_4", "prefill_16", "decode"} if executor == "fused" else {"linear_0_16", "linear_2_1"}
    assert wanted <= {node["signature"] for node in nodes}
    assert any(node["signature"].startswith("estimate_16_256_") for node in nodes) == (executor == "pipelined")
    for flags in ([], ["--nodes"]):
        text = run(capsys, "inspect", shared_bundle, "--executor", executor, *flags).out
        assert ("ShadowSparseAttention" in text) == (executor == "fused")
        assert ("linear_<layer>_16" in text) == (executor == "pipelined" and not flags)


@pytest.mark.parametrize("sizes", [{"chunks": (1,)}, {"max_length": 1, "seq_lens": (1,)}, {"chunks": (1, 4)}], ids=str)
def test_bundles_of_single_rows(capsys: pytest.CaptureFixture[str], tmp_path: Path, sizes: dict[str, Any]) -> None:
    write_tiny_bundle(tmp_path / "b", **sizes)
    outcome = run(capsys, "inspect", tmp_path / "b", "--json")
    assert outcome.code == 0, outcome.err
    assert "decode" in {node["signature"] for node in json.loads(outcome.out)["nodes"]}
