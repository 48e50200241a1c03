"""`shadowattn doctor`: what is there, what is missing, and the command that fixes it."""

import importlib.metadata
import json
from pathlib import Path

import pytest
from cli_runner import run, run_process

from shadowattn.runtime.commands import doctor
from shadowattn.runtime.litert import delegate


def test_a_missing_delegate_is_named_with_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv(delegate.ENVIRONMENT, str(tmp_path / "nowhere.so"))
    outcome = run(capsys, "doctor")
    assert outcome.code == 1
    assert "FAULT  delegate library" in outcome.out
    assert "nowhere.so: there is no such file" in outcome.out
    assert "To fix it:\n  " in outcome.out
    assert "delegate in LiteRT" not in outcome.out  # rests on the library


def test_a_file_that_is_no_library(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "x.so").write_bytes(b"not a library")
    monkeypatch.setenv(delegate.ENVIRONMENT, str(tmp_path / "x.so"))
    outcome = run(capsys, "doctor")
    assert outcome.code == 1
    assert "cannot be loaded" in outcome.out


def test_a_missing_package_is_named_with_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "tokenizers":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    outcome = run(capsys, "doctor", "--json")
    report = json.loads(outcome.out)
    assert (outcome.code, report["ok"]) == (1, False)
    check = next(check for check in report["checks"] if check["what"] == "tokenizers")
    assert check == {"what": "tokenizers", "ok": False, "found": "not installed", "fix": check["fix"]}
    assert check["fix"] == f"pip install tokenizers=={doctor.PACKAGES['tokenizers'][1]}"


def test_it_runs_where_numpy_and_litert_do_not_load() -> None:
    code = (
        "import sys\n"
        "for name in ('numpy', 'ai_edge_litert', 'tokenizers', 'jinja2', 'torch'): sys.modules[name] = None\n"
        "from shadowattn.runtime import cli\n"
        "sys.exit(cli.main(['doctor']))\n"
    )
    outcome = run_process(code=code)
    assert (outcome.code, outcome.err) == (1, "")
    for name in ("numpy", "ai-edge-litert", "tokenizers"):
        assert f"pip install --force-reinstall {name}==" in outcome.out


def test_a_whole_installation(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(capsys, "doctor", "--json")
    report = json.loads(outcome.out)
    assert (outcome.code, report["ok"]) == (0, True), outcome.out
    found = {check["what"]: check["found"] for check in report["checks"]}
    assert found["ai-edge-litert"].split()[0] == importlib.metadata.version("ai-edge-litert")
    assert "one sparse attention op is right" in found["delegate in LiteRT"]
    assert run(capsys, "doctor").out.endswith("Everything is there.\n")


def test_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(capsys, "doctor", "please")
    assert outcome.code == 2
    assert "doctor takes no arguments, got 'please'" in outcome.error


def test_another_version_than_the_tested_one_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.26.4" if name == "numpy" else real(name))
    report = json.loads(run(capsys, "doctor", "--json").out)
    check = next(check for check in report["checks"] if check["what"] == "numpy")
    assert (check["ok"], check["found"]) == (True, f"1.26.4 (tested with {doctor.PACKAGES['numpy'][1]})")


def test_the_tested_versions_are_those_of_the_constraints() -> None:
    lines = (Path(__file__).resolve().parents[2] / "constraints.txt").read_text().lower().splitlines()
    assert lines == [lines[0], lines[1], *sorted(lines[2:])]
    for name, (_, version) in doctor.PACKAGES.items():
        assert f"{name}=={version}" in lines
