"""The code in docs/interpreter.md, run as it stands: in ai-edge-litert, and in tf.lite in an environment of its own."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from tiny_bundle import write_tiny_bundle

from shadowattn.models.bundle import MODEL
from shadowattn.runtime import Session
from shadowattn.runtime.litert.delegate import library_path

ROOT = Path(__file__).resolve().parent.parent.parent
TF_VENV = ROOT / "build" / "tf-lite-venv"
TENSORFLOW = "tensorflow-cpu==2.21.0"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("docs") / "smollm2.bundle"
    write_tiny_bundle(path)
    return path


def documented_code(use_tf: bool) -> str:
    blocks = re.findall(r"```(?:python)?\n(.*?)```", (ROOT / "docs" / "interpreter.md").read_text("utf-8"), re.DOTALL)
    code = blocks[0].replace('"libshadow_delegate.so"', repr(str(library_path())))
    imports = "from ai_edge_litert.interpreter import Interpreter, load_delegate\n"
    assert imports in code
    return code.replace(imports, blocks[1] if use_tf else imports)


def run(python: Path | str, code: str, cwd: Path) -> list[int]:
    done = subprocess.run([python, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [int(token) for token in done.stdout.split("tokens")[-1].split()]


def expected_tokens(bundle: Path) -> list[int]:
    with Session.open(bundle, keep_ratio=0.2) as session:
        chunk = session.manifest.prefill_chunks[0]
        return list(session.generate(list(range(1, chunk)), 4, stop_token_ids=()))


def test_ai_edge_litert(bundle: Path) -> None:
    assert run(sys.executable, documented_code(use_tf=False), bundle.parent) == expected_tokens(bundle)


def tensorflow_python() -> Path:
    """The interpreter of an environment with tensorflow; made once, kept in build/."""
    python = TF_VENV / "bin" / "python"
    if not (TF_VENV / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", TF_VENV], check=True)
        install = [python, "-m", "pip", "install", "-q", TENSORFLOW]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{TENSORFLOW} could not be installed: {done.stderr.strip().splitlines()[-1]}")
        (TF_VENV / "ready").touch()
    return python


@pytest.mark.slow
def test_tf_lite(bundle: Path) -> None:
    assert run(tensorflow_python(), documented_code(use_tf=True), bundle.parent) == expected_tokens(bundle)


def test_without_the_delegate(bundle: Path) -> None:
    with pytest.raises(RuntimeError, match="unresolved custom op: ShadowSparseAttention"):
        Interpreter(model_path=str(bundle / MODEL)).get_signature_runner("decode")(
            tokens=np.zeros((1, 1), np.int32), **{n: np.zeros(1, np.int32) for n in ("position", "n_valid", "cache")}
        )
