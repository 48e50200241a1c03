"""A tiny bundle that speaks: a byte-level tokenizer, a chat template, and room for a conversation."""

from pathlib import Path

from tiny_bundle import write_tiny_bundle
from tiny_tokenizer import CHATML, bundle_tokenizer, byte_level_tokenizer

from shadowattn.models.bundle import Manifest

ROOM = {"vocab": 260, "max_length": 1024, "seq_lens": (256, 1024)}


def write_speaker(path: Path, chat_template: str | None = CHATML, bos: bool = False) -> Manifest:
    """bos: the tokenizer puts <s> in front of a text."""
    files = {"tokenizer.json": byte_level_tokenizer(bos=bos).to_str().encode()}
    if chat_template is not None:
        files["chat_template.jinja"] = chat_template.encode()
    return write_tiny_bundle(path, tokenizer=bundle_tokenizer(chat_template), extra_files=files, **ROOM)
