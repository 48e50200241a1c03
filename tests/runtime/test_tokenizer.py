"""The bundle's tokenizer."""

from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import write_tiny_bundle
from tiny_tokenizer import SPECIAL, bundle_tokenizer, byte_level_tokenizer

from shadowattn.runtime.text.tokenizer import BundleTokenizer


def open_tokenizer(path: Path, text: str) -> BundleTokenizer:
    files = {"tokenizer.json": text.encode(), "chat_template.jinja": b"x"}
    manifest = write_tiny_bundle(path, vocab=300, tokenizer=bundle_tokenizer(), extra_files=files)
    return BundleTokenizer.open(path, manifest)


def test_special_tokens_as_the_post_processor_says(tmp_path: Path) -> None:
    tokenizer = open_tokenizer(tmp_path, byte_level_tokenizer(bos=True).to_str())
    with_bos = tokenizer.encode("hi")
    without = tokenizer.encode("hi", add_special_tokens=False)
    assert with_bos == [SPECIAL.index("<s>"), *without]
    assert tokenizer.decode(with_bos) == "hi"
    assert open_tokenizer(tmp_path, byte_level_tokenizer().to_str()).encode("hi") == without


def test_special_tokens_in_a_rendered_template_are_single_tokens(tmp_path: Path) -> None:
    tokenizer = open_tokenizer(tmp_path, byte_level_tokenizer().to_str())
    assert tokenizer.encode("<|im_start|>", add_special_tokens=False) == [SPECIAL.index("<|im_start|>")]
    assert tokenizer.stop_token_ids == {SPECIAL.index("</s>"), SPECIAL.index("<|im_end|>")}


def test_truncation_and_padding_of_the_file_are_switched_off(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=32)
    assert len(open_tokenizer(tmp_path, tokenizer.to_str()).encode("abcdefgh")) == 8


def test_a_bundle_without_tokenizer_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no tokenizer, so it takes token ids only; convert again from .*tokenizer\.json"
    ):
        BundleTokenizer.open(tmp_path, write_tiny_bundle(tmp_path))


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.json: not a tokenizer"):
        open_tokenizer(tmp_path, "{}")


def test_what_is_no_text_and_no_id(tmp_path: Path) -> None:
    tokenizer = open_tokenizer(tmp_path, byte_level_tokenizer().to_str())
    for text in (3, ["a"], b"a", None):
        with pytest.raises(ValueError, match=r"wanted a text \(str\), got "):
            tokenizer.encode(text)  # type: ignore[arg-type]
    for ids, message in (
        ("a", "token ids must be integers, got 'a' at index 0"),
        ([1.0], r"token ids must be integers, got 1\.0 at index 0"),
        (5, "wanted a text, or token ids"),
        ([1, -1], "token id -1 at index 1 is outside every vocabulary"),
        ([2**32], f"token id {2**32} at index 0 is outside every vocabulary"),
        (np.array([[1], [2]]), "got a batch of 2 prompts"),
    ):
        with pytest.raises(ValueError, match=message):
            tokenizer.decode(ids)  # type: ignore[arg-type]
    ids = tokenizer.encode("hi")
    assert tokenizer.decode(np.array([ids])) == tokenizer.decode(ids) == "hi"
    assert tokenizer.decode([*ids, 2**32 - 1]) == "hi"  # an embedding with more rows than there are tokens
