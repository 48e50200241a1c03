"""A1 to A5, A8 through a whole conversion: what the bundle holds of a tokenizer, and what is said on the way."""

import io
from pathlib import Path

import pytest
from tokenizer_folders import CHAT, CHATML, CONFIG, MESSAGES, THREE, byte_level, reference, write_folder
from tokenizer_ggufs import ADD_BOS, BYTE_LEVEL, EOS, PRE, TEXTS, Row, golden, layer_weights, write_gguf

from shadowattn.converter.pipeline import convert
from shadowattn.models.bundle import Manifest, Sampling, read_manifest
from shadowattn.runtime.text.chat import ChatTemplate, Conversation
from shadowattn.runtime.text.tokenizer import BundleTokenizer


def converted(model: Path, output: Path) -> tuple[Manifest, list[str]]:
    """The bundle's manifest, and the warnings on the progress stream."""
    shown = io.StringIO()
    convert(model, output, weights="float32", prefill_chunks=(2,), progress=shown)
    said = [line.removeprefix("warning: ") for line in shown.getvalue().splitlines() if line.startswith("warning: ")]
    return read_manifest(output), said


def chat_prompt(bundle: Path, manifest: Manifest) -> list[int]:
    conversation = Conversation(ChatTemplate.open(bundle, manifest), BundleTokenizer.open(bundle, manifest))
    conversation.messages = [dict(message) for message in MESSAGES[:-1]]
    return conversation.ask(MESSAGES[-1]["content"])


def test_a_folder(tmp_path: Path) -> None:
    files = {
        "tokenizer.json": byte_level(),
        CONFIG: CHAT | {"added_tokens_decoder": THREE},
        "generation_config.json": {
            "do_sample": True,
            "temperature": 0.6,
            "top_k": 20,
            "min_p": 0.1,
            "eos_token_id": 402,
        },
    }
    folder = write_folder(tmp_path / "model", files)
    bundle = tmp_path / "out.bundle"
    manifest, said = converted(folder, bundle)
    theirs = reference(folder)
    assert (
        chat_prompt(bundle, manifest) == theirs.apply_chat_template(MESSAGES, add_generation_prompt=True)["input_ids"]
    )
    tokenizer = BundleTokenizer.open(bundle, manifest)
    assert [tokenizer.encode(text) for text in TEXTS] == [theirs(text)["input_ids"] for text in TEXTS]
    assert manifest.tokenizer.stop_token_ids == (402, 401)
    assert manifest.sampling == Sampling(0.6, 20)
    (warning,) = said
    assert warning.endswith("asks for min_p = 0.1, which shadowattn does not do; it is left out")


@pytest.mark.parametrize("add_bos", [True, False])
def test_a_gguf(add_bos: bool, tmp_path: Path) -> None:
    fields = {
        PRE: "llama-bpe",
        ADD_BOS: None if add_bos else False,
        EOS: 2**32 - 1,
        "general.sampling.temp": 0.7,
        "tokenizer.chat_template": CHATML,
    }
    path = write_gguf(tmp_path / "model.gguf", Row(BYTE_LEVEL, fields), weights=layer_weights())
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "x"}')
    bundle = tmp_path / "out.bundle"
    manifest, said = converted(path, bundle)
    wanted = golden()["answers"][
        golden()["rows"][f"llama-bpe, add_bos_token {None if add_bos else False}, add_eos_token None"]
    ]["tokens"]
    tokenizer = BundleTokenizer.open(bundle, manifest)
    assert [tokenizer.encode(text) for text in TEXTS] == wanted
    assert (chat_prompt(bundle, manifest)[0] == manifest.tokenizer.bos_token_id) == add_bos
    assert manifest.tokenizer.stop_token_ids == (902,)  # <|im_end|>, by its text
    assert manifest.sampling == Sampling(0.7)
    (warning,) = said
    assert "tokenizer.ggml.eos_token_id names token 4294967295, but the vocabulary has 906; it is left out" in warning
