"""The code of docs/python.md runs as it stands, block after block, with a tiny bundle in the place of a model."""

import re
from pathlib import Path

import pytest
from speaking import write_speaker

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "python.md"


def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_speaker(tmp_path / "model.bundle")
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text("utf-8")
    names: dict[str, object] = {}
    blocks = list(re.finditer(r"```python\n(.*?)```", text, re.DOTALL))
    assert len(blocks) >= 8
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], str(PAGE), "exec"), names)  # so that a failure names the page's line
    out = capsys.readouterr().out
    assert "<shadowattn Session of tiny: mode shadow" in out
    assert "got a batch of 2 prompts; a session holds one" in out
