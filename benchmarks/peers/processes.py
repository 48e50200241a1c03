"""Runs a system's process and brings its answer back."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from peers.systems import System
from peers.worker import Request

_TIMEOUT = 1800  # seconds of one prompt
_QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all processes of a measurement share."""

    peers_dir: Path
    models: Path
    bundle: Path
    num_threads: int
    isa: str
    cores: tuple[int, ...]


def run_system(system: System, setting: Setting, tokens: Path, decode_tokens: int) -> dict[str, Any]:
    """What the process measured, or {"failed": why}. tokens: a JSON file of ids; decode_tokens 0: its answer only."""
    interpreter = system.interpreter(setting.peers_dir)
    assert interpreter is not None, "asked before"
    with tempfile.TemporaryDirectory() as folder:
        request = Request(
            system.variant, str(setting.models), str(setting.bundle), str(tokens), decode_tokens, setting.num_threads,
            setting.isa, setting.cores, str(Path(folder) / "result.json"),
        )  # fmt: skip
        words = [str(interpreter), "-m", "peers.worker", system.module, json.dumps(dataclasses.asdict(request))]
        try:
            done = subprocess.run(
                words, env=_environment(system), capture_output=True, text=True, errors="replace", timeout=_TIMEOUT,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"failed": f"no end after {_TIMEOUT} s"}
        if done.returncode:
            return {"failed": _why(done.returncode, done.stderr)}
        found: dict[str, Any] = json.loads(Path(request.result).read_text("utf-8"))
        return found


def _environment(system: System) -> dict[str, str]:
    """A peer finds its worker; what runs in this interpreter also what this one finds."""
    own = [str(Path(__file__).resolve().parent.parent)]
    if system.environment is None:
        own += [path for path in sys.path if path]
    return os.environ | _QUIET | {"PYTHONPATH": os.pathsep.join(own)}


def _why(code: int, errors: str) -> str:
    """Its last line of errors."""
    lines = [line for line in errors.splitlines() if line.strip()]
    ended = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{ended}: {' '.join(lines[-1].split())[:300]}" if lines else ended
