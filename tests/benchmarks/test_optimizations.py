"""Settings timed by one script and evaluated by another, joined; which of them nothing beats."""

import json
from pathlib import Path
from typing import Any

import optimizations
import pytest


def speed(**ms: float) -> dict[str, Any]:
    rows = [
        {"phase": "prefill", "length": 64, "kernel": f"ours, {name}", "ours": True, "ms": time,
         "x_fastest_of_others": 10 / time, "mean_keep_ratio": 0.5}
        for name, time in ms.items()
    ]  # fmt: skip
    theirs = {"phase": "prefill", "length": 64, "kernel": "torch", "ours": False, "ms": 10.0}
    longer = {**rows[0], "length": 128, "ms": 99.0}
    machine = {"model": "Tiny (int8)", "machine": {"processor": "A processor"}, "isa": "avx2", "num_threads": 1}
    return {"rows": [*rows, theirs, longer], **machine}


def accuracy(text: str, **changes: float) -> dict[str, Any]:
    rows = [
        {"task": "perplexity", "window": 64, "text": text, "mode": mode, "keep_ratio": None, "change_percent": change}
        for mode, change in changes.items()
    ]
    return {"rows": [*rows, {**rows[0], "window": 128, "change_percent": 77.0}]}


TEXTS = [accuracy("a", fast=2.0, slow=0.1, worse=3.0), accuracy("b", fast=4.0, slow=0.3, worse=3.0)]


def test_settings_are_joined_by_name_and_length() -> None:
    found = optimizations.join(speed(slow=8.0, fast=2.0, untold=1.0), TEXTS, 64)
    assert [(s.name, s.ms, s.gain, s.change, s.worst) for s in found] == [
        ("fast", 2.0, 5.0, 3.0, 4.0), ("slow", 8.0, 1.25, pytest.approx(0.2), 0.3)
    ]  # fmt: skip


def test_keep_ratios_are_part_of_the_name() -> None:
    report = accuracy("a", shadow=1.0)
    report["rows"][0]["keep_ratio"] = 0.05
    assert [s.name for s in optimizations.join(speed(**{"shadow 0.05": 1.0, "shadow": 2.0}), [report], 64)] == [
        "shadow 0.05"
    ]


def test_the_front_is_what_nothing_beats() -> None:
    found = optimizations.join(speed(slow=8.0, fast=2.0, worse=2.5), TEXTS, 64)
    assert [s.name for s in optimizations.on_the_front(found)] == [
        "fast",
        "slow",
    ]  # worse: as accurate as fast, and slower


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(ValueError, match=r"wanted settings timed and evaluated at 64, got timed .*other"):
        optimizations.join(speed(other=1.0), TEXTS, 64)


def test_the_command_writes_table_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [accuracy("a", int8=2.0, dense=0.1), accuracy("b", int8=4.0, dense=0.3)]
    for name, content in {"s": speed(dense=8.0, int8=2.0), "a": texts[0], "b": texts[1]}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content), "utf-8")
    files = [str(tmp_path / f"{name}.json") for name in "ab"]
    out = tmp_path / "out" / "optimizations"
    words = ["--length=64", f"--speed={tmp_path / 's.json'}", "--accuracy", *files, f"--out={out}"]
    assert optimizations.main(words) == 0
    assert "| int8 | 2 | 5.00 | 0.5 | +3.00 | +4.00 | yes |" in out.with_suffix(".md").read_text("utf-8")
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
