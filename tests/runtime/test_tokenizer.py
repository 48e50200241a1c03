"""The bundle's tokenizer."""

from pathlib import Path

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
