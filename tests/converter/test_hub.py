"""Models by their Hub name: what is downloaded, what is not, and what is said where it cannot be had."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hub_server import COMMIT, HubServer
from tiny_models import TinyModel

from shadowattn.converter import hub

ROOT = Path(__file__).resolve().parent.parent.parent
WANTED = {  # all different: the cache downloads no content twice
    "config.json": b"{}",
    "README.md": b"---\nlicense: mit\n---\n",
    "tokenizer.json": b'{"model": {}}',
    "tokenizer_config.json": b'{"a": 1}',
    "model-00001-of-00002.safetensors": b"one",
    "model-00002-of-00002.safetensors": b"two",
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    ).encode(),
}
OTHERS = {
    "modeling_tiny.py": b"raise SystemExit",
    "pytorch_model.bin": b"pickle",
    "consolidated.safetensors": b"again",
    "original/model.safetensors": b"again",
    "onnx/model.onnx": b"onnx",
}


def fetch(name: str, home: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    """hub.fetch() in a process of its own: huggingface_hub reads the environment when it is imported."""
    program = "import sys; from shadowattn.converter import hub; print(hub.fetch(sys.argv[1]))"
    return run("-c", program, name, home=home, endpoint=endpoint)


def shadowattn(*arguments: object, home: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    return run("-m", "shadowattn.runtime.cli", *map(str, arguments), home=home, endpoint=endpoint)


def run(*arguments: str, home: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1"}
    environ = {name: value for name, value in environ.items() if not name.lower().endswith("_proxy")}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=900, check=False)


def test_no_code_is_downloaded(tmp_path: Path) -> None:
    with HubServer("org/tiny", WANTED | OTHERS).running() as server:
        done = fetch("org/tiny", tmp_path, server.endpoint)
        assert done.returncode == 0, done.stderr
        folder = Path(done.stdout.strip())
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == WANTED
        assert server.downloaded == set(WANTED)
        assert "100%" in done.stderr  # the progress
        server.asked.clear()
        again = fetch("org/tiny", tmp_path, server.endpoint)
        assert (again.stdout, server.asked) == (done.stdout, [])  # from the cache, without a request
    offline = fetch("org/tiny", tmp_path, server.endpoint)
    assert offline.stdout == done.stdout


def test_a_cache_without_a_shard_is_completed(tmp_path: Path) -> None:
    with HubServer("org/tiny", WANTED).running() as server:
        folder = Path(fetch("org/tiny", tmp_path, server.endpoint).stdout.strip())
        shard = folder / "model-00002-of-00002.safetensors"
        shard.resolve().unlink()
        shard.unlink()
        assert fetch("org/tiny", tmp_path, server.endpoint).returncode == 0
        assert shard.read_bytes() == b"two"


@pytest.mark.parametrize("index", ["stale", "damaged"])
def test_an_index_that_says_nothing_true(index: str, tmp_path: Path) -> None:
    """The whole file counts, as in a folder; without one the conversion says what is wrong with the index."""
    files = {"config.json": b"{}", "tokenizer.json": b'{"model": {}}'}
    if index == "stale":
        files |= {"model.safetensors": b"whole", "model.safetensors.index.json": b'{"weight_map": {"a": "gone"}}'}
    else:
        files |= {"model-00001-of-00001.safetensors": b"one", "model.safetensors.index.json": b"{"}
    with HubServer("org/tiny", files).running() as server:
        done = fetch("org/tiny", tmp_path, server.endpoint)
        assert done.returncode == 0, done.stderr
        assert {path.name for path in Path(done.stdout.strip()).iterdir()} == set(files)
        server.asked.clear()
        assert fetch("org/tiny", tmp_path, server.endpoint).stdout == done.stdout
        assert server.asked == []


def test_a_name_becomes_a_bundle_that_answers(tiny: Callable[[str], TinyModel], tmp_path: Path) -> None:
    """`shadowattn convert org/name`, then `generate`; the bundle says where the model is from."""
    folder, bundle = tiny("llama").path, tmp_path / "tiny.bundle"
    files = {path.name: path.read_bytes() for path in folder.iterdir()} | {"modeling_tiny.py": b"raise SystemExit(9)"}
    with HubServer("org/tiny", files).running() as server:
        flags = ("--prefill_chunks=5", "--grid_multipliers=none", "--weights=float32", "--max_length=64", "--json")
        done = shadowattn("convert", "org/tiny", "-o", bundle, *flags, home=tmp_path / "home", endpoint=server.endpoint)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["name"], facts["licence"]) == ("org/tiny", "apache-2.0")
    assert "modeling_tiny.py" not in server.downloaded
    program = ("generate", bundle, "w5 w6 w7", "-n", "4", "--temp=0", "--mode=dense", "--json")
    done = shadowattn(*program, home=tmp_path / "home", endpoint=server.endpoint)
    assert done.returncode == 0, done.stderr
    wanted = [5, 6, 7]
    for _ in range(4):
        wanted.append(int(tiny("llama").logits(np.array(wanted))[-1].argmax()))
    assert json.loads(done.stdout)["token_ids"] == wanted[3:]


def test_a_revision(tmp_path: Path) -> None:
    with HubServer("org/tiny", WANTED).running() as server:
        done = fetch("org/tiny@v1.0", tmp_path, server.endpoint)
        assert done.returncode == 0, done.stderr
        assert any(path.endswith("/revision/v1.0") for path in server.asked)
        assert Path(done.stdout.strip()).name == COMMIT


def test_what_cannot_be_had(tmp_path: Path) -> None:
    with HubServer("org/tiny", {"config.json": b"{}", "tiny.gguf": b"GGUF"}).running() as server:
        no_weights = fetch("org/tiny", tmp_path / "a", server.endpoint)
        unknown = fetch("org/other", tmp_path / "b", server.endpoint)
    with HubServer("org/tiny", WANTED, gated=True).running() as server:
        gated = fetch("org/tiny", tmp_path / "c", server.endpoint)
    unreachable = fetch("org/tiny", tmp_path / "d", server.endpoint)
    for done, sentence in (
        (no_weights, "org/tiny: the model has no config.json with weights in safetensors"),
        (unknown, "org/other: there is no such path here and no such model at http://127.0.0.1"),
        (gated, "org/tiny: the model's owner must let you in first; accept its terms at http://127.0.0.1"),
        (
            unreachable,
            "org/tiny: there is no such path here, it is not in the Hugging Face cache, and http://127.0.0.1",
        ),
    ):
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith(f"ValueError: {sentence}"), done.stderr


@pytest.mark.parametrize(
    ("text", "is_name"),
    [
        ("org/name", True),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", True),
        ("org/name@main", True),
        ("./org/name", False),
        ("/org/name", False),
        ("org/name/more", False),
        ("name", False),
        ("~/name", False),
        ("tests/converter", False),  # a folder that is there
    ],
)
def test_what_reads_like_a_name(monkeypatch: pytest.MonkeyPatch, text: str, is_name: bool) -> None:
    monkeypatch.chdir(ROOT)
    assert hub.is_hub_name(text) is is_name
