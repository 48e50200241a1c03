"""Tiny random models of every family, made with transformers from a config: no download, a second each."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

SEED = 20261121
VOCAB = 288
CHUNK = 5

_BASE = {
    "vocab_size": VOCAB,
    "num_hidden_layers": 2,
    "max_position_embeddings": 192,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.1,
}
# name -> (config class, its fields): five query heads per KV head, head_dim 40 and 128, hidden not a multiple of 64,
# MHA, MQA.
FAMILIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (
        transformers.LlamaConfig,
        {
            "hidden_size": 200,
            "intermediate_size": 176,
            "num_attention_heads": 5,
            "num_key_value_heads": 1,
            "head_dim": 40,
        },
    ),
    "llama_linear_mha_tied": (
        transformers.LlamaConfig,
        {
            "hidden_size": 72,
            "intermediate_size": 100,
            "num_attention_heads": 3,
            "num_key_value_heads": 3,
            "tie_word_embeddings": True,
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
        },
    ),
    "llama3_rope": (
        transformers.LlamaConfig,
        {
            "hidden_size": 96,
            "intermediate_size": 104,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "rope_parameters": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
                "rope_theta": 500000.0,
            },
        },
    ),
    "qwen2": (
        transformers.Qwen2Config,
        {"hidden_size": 100, "intermediate_size": 90, "num_attention_heads": 10, "num_key_value_heads": 2},
    ),
    "qwen3": (
        transformers.Qwen3Config,
        {
            "hidden_size": 80,
            "intermediate_size": 72,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 128,
        },
    ),
    "mistral": (
        transformers.MistralConfig,
        {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "sliding_window": None,
        },
    ),
}


@dataclasses.dataclass(frozen=True)
class TinyModel:
    """A model directory and the transformers model it was saved from."""

    path: Path
    model: Any

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """tokens [n] -> float32 [n,vocab], by transformers."""
        with torch.inference_mode():
            return self.model(torch.from_numpy(tokens.astype(np.int64))[None]).logits[0].numpy()


def make_model(folder: Path, family: str = "llama", **changes: Any) -> TinyModel:
    """Saves a random model of a family (fields may be changed) as a Hugging Face directory, with a small tokenizer."""
    config_class, fields = FAMILIES[family]
    torch.manual_seed(SEED)
    dtype = changes.pop("dtype", torch.float32)
    shard = changes.pop("max_shard_size", "1GB")
    model = transformers.AutoModelForCausalLM.from_config(config_class(**(_BASE | fields | changes))).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight") or name.endswith("bias"):
            torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.3)
    model = model.to(dtype)
    model.save_pretrained(folder, max_shard_size=shard)
    save_tokenizer(folder)
    return TinyModel(folder, model.float())


def save_tokenizer(folder: Path) -> None:
    """A word-level tokenizer of VOCAB entries with a chat template and a README that names a licence."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, VOCAB)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": "{{ messages[0].content }}"}'
    )
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
