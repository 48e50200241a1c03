"""Runs the command line for tests: in this process where that will do, else in one of its own."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from tiny_bundle import write_tiny_bundle
from tiny_tokenizer import CHATML, bundle_tokenizer, byte_level_tokenizer

from shadowattn.runtime import cli


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one error line. Fails if there are more, or none."""
        lines = [line for line in self.err.splitlines() if line]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("shadowattn: error: ")
        return lines[0].removeprefix("shadowattn: error: ")


def run(capsys: pytest.CaptureFixture[str], *args: object) -> Outcome:
    """`shadowattn ARGS`, in this process."""
    capsys.readouterr()
    code = cli.main([str(arg) for arg in args])
    return Outcome(code, *capsys.readouterr())


def run_process(
    *args: object, stdin: bytes = b"", code: str | None = None, environ: Mapping[str, str] | None = None
) -> Outcome:
    """`shadowattn ARGS` in a process; `code` instead of that: Python code that runs it."""
    program = ["-m", "shadowattn.runtime.cli"] if code is None else ["-c", code]
    command = [sys.executable, *program, *map(str, args)]
    done = subprocess.run(
        command, input=stdin, capture_output=True, env={**environment(), **(environ or {})}, timeout=300, check=False
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def environment() -> Mapping[str, str]:
    """Children find what this process finds."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def write_speaking_bundle(path: Path, chat_template: str | None = CHATML) -> Path:
    """A tiny bundle with a byte-level tokenizer and a chat template."""
    files = {"tokenizer.json": byte_level_tokenizer().to_str().encode()}
    if chat_template is not None:
        files["chat_template.jinja"] = chat_template.encode()
    write_tiny_bundle(path, vocab=260, tokenizer=bundle_tokenizer(chat_template), extra_files=files)
    return path
