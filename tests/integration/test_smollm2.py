"""The real model: same tokens as transformers, little lost to INT8 weights, the demo's question answered."""

from pathlib import Path

import numpy as np
import pytest
import torch
from smollm2 import held_out_text, load_demo

from shadowattn.models.bundle import read_manifest
from shadowattn.runtime import Session
from shadowattn.runtime.text.chat import ChatTemplate, Conversation
from shadowattn.runtime.text.tokenizer import BundleTokenizer

pytestmark = pytest.mark.slow
PROMPT_TOKENS, NEW_TOKENS = 1000, 64


@pytest.fixture(scope="module")
def transformers_tokens(checkpoint: Path) -> tuple[list[int], list[int]]:
    """A prompt of 1,000 tokens and transformers' greedy continuation in float32."""
    from pydoc_data.topics import topics

    from transformers import AutoModelForCausalLM, AutoTokenizer

    load = {"gguf_file": checkpoint.name}
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.parent, **load)
    model = AutoModelForCausalLM.from_pretrained(checkpoint.parent, dtype=torch.float32, **load).eval()
    prompt = tokenizer(topics["execmodel"])["input_ids"][:PROMPT_TOKENS]
    with torch.no_grad():
        out = model.generate(
            torch.tensor([prompt]), max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False
        )
    return prompt, out[0, PROMPT_TOKENS:].tolist()


@pytest.mark.parametrize("executor", ["fused", "pipelined"])
def test_float32_continues_as_transformers_does(
    float_bundle: Path, transformers_tokens: tuple[list[int], list[int]], executor: str
) -> None:
    prompt, expected = transformers_tokens
    with Session.open(float_bundle, keep_ratio=1.0, executor=executor, cache_type="f32") as session:
        assert list(session.generate(prompt, NEW_TOKENS, stop_token_ids=())) == expected


def perplexity(bundle: Path, tokens: list[int], **settings: object) -> float:
    with Session.open(bundle, **settings) as session:
        return float(np.exp(-session.score(tokens).astype(np.float64).mean()))


def test_int8_weights_lose_less_than_two_percent(float_bundle: Path, int8_bundle: Path) -> None:
    tokenizer = BundleTokenizer.open(float_bundle, read_manifest(float_bundle))
    tokens = tokenizer.encode(held_out_text())[:2048]
    exact = perplexity(float_bundle, tokens, keep_ratio=1.0, cache_type="f32")
    int8 = perplexity(int8_bundle, tokens, keep_ratio=1.0)
    print(
        f"perplexity of {len(tokens)} held-out tokens: float32 {exact:.3f}, INT8 {int8:.3f} ({int8 / exact - 1:+.2%})"
    )
    assert abs(int8 / exact - 1) < 0.02


@pytest.mark.parametrize("settings", [{"mode": "dense"}, {}], ids=["dense", "sparse"])
def test_the_demo_question_is_answered(int8_bundle: Path, settings: dict) -> None:
    demo = load_demo()
    manifest = read_manifest(int8_bundle)
    tokenizer = BundleTokenizer.open(int8_bundle, manifest)
    prompt = Conversation(ChatTemplate.open(int8_bundle, manifest), tokenizer).ask(demo.long_prompt())
    assert len(prompt) >= 3000
    with Session.open(int8_bundle, **settings) as session:
        answer = tokenizer.decode(list(session.generate(prompt, 48)))
    print(answer)
    assert "wrap the execution of a block" in answer
