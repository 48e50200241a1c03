"""The code in docs/interpreter.md, run as it stands in ai-edge-litert, and in environments of other interpreters."""

import functools
import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from tiny_bundle import write_tiny_bundle
from tiny_models import CHUNK, make_model

from shadowattn.converter.pipeline import convert
from shadowattn.models.bundle import MODEL
from shadowattn.runtime import Session
from shadowattn.runtime.litert.delegate import library_path

ROOT = Path(__file__).resolve().parent.parent.parent
TENSORFLOW = ("tensorflow-cpu==2.21.0",)
TFLITE_RUNTIME = ("tflite-runtime==2.14.0", "numpy<2")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("docs") / "smollm2.bundle"
    write_tiny_bundle(path)
    return path


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """What the converter makes of a tiny model, under the name that the code has."""
    model = make_model(tmp_path_factory.mktemp("tiny") / "model").path

    @functools.cache
    def make(weights: str) -> Path:
        path = tmp_path_factory.mktemp(weights) / "smollm2.bundle"
        return convert(model, path, weights=weights, prefill_chunks=(CHUNK,), progress=io.StringIO())

    return make


def documented_code(imports: int = 0) -> str:
    """imports: which block names the two classes, 0 for the code's own."""
    blocks = re.findall(r"```(?:python)?\n(.*?)```", (ROOT / "docs" / "interpreter.md").read_text("utf-8"), re.DOTALL)
    code = blocks[0].replace('"libshadow_delegate.so"', repr(str(library_path())))
    own = "from ai_edge_litert.interpreter import Interpreter, load_delegate\n"
    assert own in code
    return code.replace(own, blocks[imports] if imports else own)


def started(python: Path | str, code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def run(python: Path | str, code: str, cwd: Path) -> list[int]:
    done = started(python, code, cwd)
    assert done.returncode == 0, done.stderr[-2000:]
    return [int(token) for token in done.stdout.split("tokens")[-1].split()]


def expected_tokens(bundle: Path) -> list[int]:
    with Session.open(bundle, keep_ratio=0.2) as session:
        chunk = session.manifest.prefill_chunks[0]
        return list(session.generate(list(range(1, chunk)), 4, stop_token_ids=()))


def test_ai_edge_litert(bundle: Path) -> None:
    assert run(sys.executable, documented_code(), bundle.parent) == expected_tokens(bundle)


def other_python(requirements: tuple[str, ...]) -> Path:
    """The interpreter of an environment of its own; made once, kept in build/."""
    venv = ROOT / "build" / f"{requirements[0].partition('=')[0]}-venv"
    python = venv / "bin" / "python"
    if not (venv / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        install = [python, "-m", "pip", "install", "-q", *requirements]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{requirements[0]} could not be installed: {done.stderr.strip().splitlines()[-1]}")
        (venv / "ready").touch()
    return python


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_tf_lite(weights: str, converted: Callable[[str], Path]) -> None:
    path = converted(weights)
    assert run(other_python(TENSORFLOW), documented_code(imports=1), path.parent) == expected_tokens(path)


@pytest.mark.slow
def test_tflite_runtime(converted: Callable[[str], Path]) -> None:
    path = converted("float32")
    assert run(other_python(TFLITE_RUNTIME), documented_code(imports=2), path.parent) == expected_tokens(path)


@pytest.mark.slow
def test_tflite_runtime_does_not_know_int8_weights(converted: Callable[[str], Path]) -> None:
    """What the page says of the last line: an error that names the operator, and no wrong answer."""
    done = started(other_python(TFLITE_RUNTIME), documented_code(imports=2), converted("int8").parent)
    message = "Didn't find op for builtin opcode 'EMBEDDING_LOOKUP' version '4'"
    assert done.returncode != 0
    assert message in done.stderr
    assert message in " ".join((ROOT / "docs" / "interpreter.md").read_text("utf-8").split())


def test_without_the_delegate(bundle: Path) -> None:
    with pytest.raises(RuntimeError, match="unresolved custom op: ShadowSparseAttention"):
        Interpreter(model_path=str(bundle / MODEL)).get_signature_runner("decode")(
            tokens=np.zeros((1, 1), np.int32), **{n: np.zeros(1, np.int32) for n in ("position", "n_valid", "cache")}
        )
