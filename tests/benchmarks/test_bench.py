"""`make bench` on a tiny bundle: every part runs, checks its answers, and leaves JSON, tables and pictures. No test
looks at a time."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attention_speed
import bench
import dense_kernels
import end_to_end
import isa_limit
import numpy as np
import pytest
import thread_scaling
from attention_kernel import FLOAT32, DenseTask, Task
from cli_runner import environment
from recorded import Rows, spread_layers
from tiny_bundle import write_tiny_bundle

from shadowattn.runtime.evaluate.plots import can_plot

SCRIPT = Path(bench.__file__).resolve()
SETTLED: dict[str, Any] = {
    "machine": {"cpus": [], "physical_cores": 1}, "cores": [0], "limits": "none", "isa_asked": "auto",
}  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "tiny.bundle"
    write_tiny_bundle(path)
    return path


@pytest.fixture(scope="module")
def short(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one short run. isa auto: any machine can."""
    out = tmp_path_factory.mktemp("out")
    words = [f"--bundle={bundle}", "--short", "--isa=auto", "--modes=int8,shadow,shadow@0.05", f"--out={out}"]
    command = [sys.executable, str(SCRIPT), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(environment()), timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return out


def result(short: Path, part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((short / f"{part}.json").read_text())
    return found


def test_attention_alone(short: Path) -> None:
    found = result(short, "attention_speed")
    rows = found["rows"]
    ours = ["ours, dense", "ours, int8", "ours, shadow auto", "ours, shadow 0.05"]
    assert [row["kernel"] for row in rows if row["ours"] and row["phase"] == "prefill"] == ours * 2
    assert {(row["phase"], row["length"]) for row in rows} == {(p, n) for p in ("prefill", "decode") for n in (64, 128)}
    for row in rows:
        assert row["ms"] > 0
        assert set(row["ms_by_layer"]) == {"0", "1"}
        assert 0 <= row["relative_error"] < 0.5  # it was checked
        assert row["runs"] == (2 if row["phase"] == "prefill" else 3)
        assert (row["exponent"] is None) == (row["length"] == 64)
        assert row["x_fastest_dense"] > 0
        assert ("stages_ms" in row) == row["ours"]
    sparse = [row for row in rows if row["kernel"] == "ours, shadow 0.05" and row["length"] == 128]
    assert all(row["mean_keep_ratio"] < 1 for row in sparse)
    assert found["isa"] in found["delegate"]
    assert "random token ids" in found["text"]


def test_end_to_end(short: Path) -> None:
    found = result(short, "end_to_end")
    systems = ["shadowattn:dense", "shadowattn:int8", "shadowattn:shadow", "shadowattn:shadow@0.05"]
    order = [(row["prompt_tokens"], row["system"]) for row in found["rows"]]
    assert order == [(length, system) for length in (32, 64) for system in systems]
    assert found["reference"] == "shadowattn:dense"
    for row in found["rows"]:
        assert row["peak_rss_bytes"] > 2**20
        assert min(row["load_s"], row["ttft_s"], row["decode_tok_s"]) > 0
        assert row["same_first_token"] in ((True,) if row["system"] == "shadowattn:dense" else (True, False))
    keep = {row["system"]: row["mean_keep_ratio"] for row in found["rows"] if row["prompt_tokens"] == 64}
    assert keep["shadowattn:shadow@0.05"] < keep["shadowattn:dense"] == 1


def test_the_document_says_how_and_where(short: Path) -> None:
    text = (short / "performance.md").read_text()
    assert "make bench BENCH='--bundle=" in text
    assert "python benchmarks/attention_speed.py --bundle=" in text
    assert "python benchmarks/end_to_end.py --bundle=" in text
    assert "Machine: " in text
    if can_plot():
        for picture in ("attention_prefill", "attention_decode", "attention_stages", "ttft"):
            assert f"![performance_{picture}](performance_{picture}.png)" in text
            assert (short / f"performance_{picture}.png").stat().st_size > 0


def test_threads(short: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        assert "Missing: thread_scaling: this process may use one CPU only" in (short / "performance.md").read_text()
        pytest.skip("one CPU only")
    rows = result(short, "thread_scaling")["rows"]
    assert "ours, shadow auto" in {row["kernel"] for row in rows}
    assert all(row["speedup"] == pytest.approx(row["ms_one"] / row["ms_many"]) for row in rows)


class WrongKernel:
    """Zeros, quickly."""

    name = "wrong"
    ours = False
    exactness = FLOAT32

    def prefill(self, rows: Rows) -> Task:
        zeros = np.zeros((rows.q.shape[1], len(rows.q), rows.q.shape[2]), np.float32)
        return DenseTask(lambda _: zeros, np.asarray)

    def decode(self, rows: Rows, steps: int) -> Task:
        raise AssertionError("a wrong prefill ends it")


def test_a_wrong_answer_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_kernels, "dense_kernels", lambda num_threads: ([WrongKernel()], {}))
    words = [f"--bundle={bundle}", "--isa=auto", "--lengths=64", "--layers=1", "--gemm=64"]
    with pytest.raises(ValueError, match=r"^wrong: WRONG ANSWER: .*nothing was timed"):
        attention_speed.measure(attention_speed.parse_arguments(words), SETTLED)


def test_our_own_wrong_answer_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan of another layer: scores are then off."""
    import our_attention

    plan_of_layer = our_attention.plan_of_layer

    def spoiled(plan: Any, layer: int) -> Any:
        found = plan_of_layer(plan, layer)
        found.scale[:] *= 50  # one step of K for most elements
        return found

    monkeypatch.setattr(our_attention, "plan_of_layer", spoiled)
    monkeypatch.setattr(dense_kernels, "dense_kernels", lambda num_threads: ([], {}))
    words = [f"--bundle={bundle}", "--isa=auto", "--lengths=128", "--layers=1", "--gemm=64", "--modes=int8"]
    with pytest.raises(ValueError, match=r"^ours, int8: WRONG ANSWER: relative error"):
        attention_speed.measure(attention_speed.parse_arguments(words), SETTLED)


def test_longer_than_the_bundle_is_tiled(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_kernels, "dense_kernels", lambda num_threads: ([], {"torch": "left out here"}))
    words = [f"--bundle={bundle}", "--isa=auto", "--lengths=128,300", "--gemm=64", "--runs=1", "--decode_steps=2"]
    found = attention_speed.measure(attention_speed.parse_arguments(words), SETTLED)
    prefills = {row["length"]: row for row in found["rows"] if row["phase"] == "prefill"}
    assert not prefills[128]["tiled"]
    assert prefills[300]["tiled"]
    assert set(prefills[128]["ms_by_layer"]) == {0, 1}
    assert set(prefills[300]["ms_by_layer"]) == {1}
    assert found["skipped"]["torch"] == "left out here"


def test_parts_are_selected_by_name() -> None:
    assert bench._selected("end_to_end,attention_speed") == ["attention_speed", "end_to_end"]
    with pytest.raises(SystemExit, match=r"--only: wanted some of attention_speed, .*, got 'speed'"):
        bench._selected("speed")


def test_every_part_understands_its_command_line(tmp_path: Path) -> None:
    for flags in (["--short"], ["--long", "--num_threads=2", "--modes=int8,shadow@0.02", "--isa=avx2"]):
        found = bench.commands(bench.parse_arguments(flags), tmp_path, Path("a.txt"))
        parsed: dict[str, argparse.Namespace] = {
            "attention_speed": attention_speed.parse_arguments(found["attention_speed"]),
            "thread_scaling": thread_scaling.parse_arguments(found["thread_scaling"]),
        }
        end_to_end_words = end_to_end.parse_arguments(found["end_to_end"])
        assert list(found) == list(bench.PARTS)
        isa = "avx2" if "--isa=avx2" in flags else isa_limit.usual_isa()
        assert {arguments.isa for arguments in (*parsed.values(), end_to_end_words)} == {isa}
        assert end_to_end_words.systems[0] == "shadowattn:dense"
        assert parsed["thread_scaling"].num_threads == 2
        assert parsed["attention_speed"].long == ("--long" in flags)


def test_a_failed_part_is_named_and_its_old_result_gone(tmp_path: Path) -> None:
    old = tmp_path / "end_to_end.json"
    old.write_text("{}")
    reason = bench.run("end_to_end", [f"--bundle={tmp_path}/none", "--isa=auto"], old)
    assert reason is not None
    assert reason.startswith("failed (1): ")
    assert "not a bundle" in reason
    assert not old.exists()


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no bundle; run `make demo` first"):
        bench.main([f"--bundle={tmp_path}/none"])


def test_layers_are_spread() -> None:
    assert spread_layers(30, 4) == [3, 11, 18, 26]
    assert spread_layers(2, 4) == [0, 1]
