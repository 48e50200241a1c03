"""A2: no code of a model is run or offered to be run, and nothing is asked of the network."""

import builtins
import io
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizer_folders import CHATML, Bundled, byte_level, write_folder

from shadowattn.converter.pipeline import convert

CODE = """import pathlib
pathlib.Path({marker!r}).write_text("ran")
from transformers import PreTrainedTokenizerFast as Own
"""
OWN = {"AutoTokenizer": ["tokenization_own.Own", "tokenization_own.Own"]}
STOCK = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": CHATML}
NEEDS_CODE = r"the tokenizer needs Python code of the model's own .*and shadowattn runs no such code; use a model whose"

# name -> tokenizer_config.json, changes of config.json, model_type, and the refusal (None: it loads without the code)
FOLDERS: dict[str, tuple[dict[str, Any], dict[str, Any], str, str | None]] = {
    "a class that transformers has": (STOCK | {"auto_map": OWN}, {}, "llama", None),
    "a class of the model's own": ({"tokenizer_class": "Own", "auto_map": OWN}, {}, "llama", NEEDS_CODE),
    "no class named": ({"auto_map": OWN}, {}, "llama", NEEDS_CODE),
    "the old form, a list": ({"auto_map": ["tokenization_own.Own", None]}, {}, "llama", NEEDS_CODE),
    "code of another repository": (
        {"auto_map": {"AutoTokenizer": [None, "some/repository--tokenization_own.Own"]}},
        {},
        "llama",
        NEEDS_CODE,
    ),
    "a model type whose class transformers prefers": ({"auto_map": OWN}, {}, "qwen2", None),
    "code in config.json": (
        STOCK,
        {"auto_map": {"AutoConfig": "tokenization_own.Own", "AutoModelForCausalLM": "tokenization_own.Own"}},
        "llama",
        None,
    ),
}


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions and connections fail the test."""

    def connect(*_: Any) -> None:
        pytest.fail("a connection was made")

    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("a question was asked"))
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", FOLDERS)
def test_no_code_is_run(name: str, tmp_path: Path) -> None:
    settings, config, model_type, refusal = FOLDERS[name]
    marker = tmp_path / "marker"
    files = {
        "tokenizer.json": byte_level(),
        "tokenizer_config.json": settings,
        "tokenization_own.py": CODE.format(marker=str(marker)),
    }
    bundled = Bundled(write_folder(tmp_path / "model", files, model_type=model_type, **config))
    if refusal is None:
        assert bundled.tokenizer.decode(bundled.encode("Hello, world!")) == "Hello, world!"
    else:
        with pytest.raises(ValueError, match=refusal) as caught:
            bundled.encode("Hello, world!")
        assert "\n" not in str(caught.value)
    assert not marker.exists()
    assert "tokenization_own" not in sys.modules


@pytest.mark.usefixtures("watched")
def test_a_conversion_refuses_before_it_begins(tmp_path: Path) -> None:
    files = {"tokenizer.json": byte_level(), "tokenizer_config.json": {"tokenizer_class": "Own", "auto_map": OWN}}
    folder = write_folder(tmp_path / "model", files)
    with pytest.raises(ValueError, match=NEEDS_CODE):
        convert(folder, tmp_path / "out.bundle", progress=io.StringIO())
    assert not (tmp_path / "out.bundle").exists()
