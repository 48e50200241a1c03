"""Makes every peer's form of one model, all of the same weights: GGUF -> float32 Hugging Face directory -> others.

PYTHONPATH=benchmarks python -m peers.models [--peers_dir=build/peers] [--gguf=FILE] [--caches=576,2112,4160,8192]

benchmarks/peers/set_up.sh runs it. What is there already is kept. A peer that is not installed gets no model.
"""

import argparse
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from peers import files

CACHES = (576, 2112, 4160, 8192)  # for prompts of 512, 2,048, 4,096 and 8,000 tokens
_PREFILL_ROWS = 512  # of a LiteRT-LM export

# transformers -> llama.cpp
_GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def make_models(models: Path, source: Path, peers_dir: Path, caches: Sequence[int]) -> None:
    """Everything that the installed peers need, into the folder `models`."""
    models.mkdir(parents=True, exist_ok=True)
    folder = models / files.HUGGING_FACE
    if not (folder / "config.json").is_file():
        _say(f"dequantising {source} into {folder}")
        dequantise(source, folder)
    if (peers_dir / "venv_llama_cpp").is_dir() and not (models / files.GGUF_Q8_0).is_file():
        _say(f"writing {models / files.GGUF_Q8_0}")
        write_q8_0(folder, models / files.GGUF_Q8_0)
    if (peers_dir / "venv_openvino").is_dir() and not (models / files.OPENVINO).is_dir():
        export_openvino(peers_dir, folder, models / files.OPENVINO)
    if (peers_dir / "venv_litert_export").is_dir():
        for positions in caches:
            target = files.litert_lm_folder(models, positions)
            if not target.is_dir():
                export_litert_lm(peers_dir, folder, target, (positions, _PREFILL_ROWS))


def dequantise(source: Path, folder: Path) -> None:
    """A GGUF file of any types -> a float32 Hugging Face directory with its tokenizer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32
    )
    config = loaded.config
    for leftover in ("quantization_config", "_pre_quantization_dtype"):  # save_pretrained refuses a model with them
        if hasattr(config, leftover):
            delattr(config, leftover)
    plain = transformers.AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(folder)
    # Peers are given the prompt as it is. With these an export for LiteRT-LM puts a token before it.
    tokenizer.bos_token = tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)


def write_q8_0(folder: Path, path: Path) -> None:
    """A Llama in a Hugging Face directory -> GGUF as llama.cpp's converter writes it, without a vocabulary."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if model.config.model_type != "llama":
        raise ValueError(f"{folder}: wanted a Llama, got {model.config.model_type}; other families are not written")
    unfinished = path.with_suffix(".unfinished")
    writer = gguf.GGUFWriter(unfinished, "llama")
    _add_metadata(writer, model.config)
    for name, weight in _weights(model):
        kind = gguf.GGMLQuantizationType.Q8_0
        if weight.ndim == 1 or weight.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
            kind = gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.replace(path)


def _add_metadata(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")  # it is given token ids


def _weights(model: Any) -> Iterator[tuple[str, np.ndarray]]:
    """llama.cpp's names, and its order of the rows of q and k: even and odd elements of a head are its RoPE pairs."""
    heads = {"q_proj": model.config.num_attention_heads, "k_proj": model.config.num_key_value_heads}
    for name, parameter in model.state_dict().items():
        stem, kind = name.rsplit(".", 1)
        if stem == "lm_head" and model.config.tie_word_embeddings:
            continue
        weight = parameter.float().numpy()
        if count := heads.get(stem.rsplit(".", 1)[-1]):
            weight = weight.reshape(count, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
        if stem.startswith("model.layers."):
            layer, inner = stem.removeprefix("model.layers.").split(".", 1)
            yield f"blk.{layer}.{_GGUF_NAMES[inner]}.{kind}", np.ascontiguousarray(weight)
        else:
            yield f"{_GGUF_NAMES[stem]}.{kind}", np.ascontiguousarray(weight)


def export_openvino(peers_dir: Path, folder: Path, target: Path) -> None:
    words = ["export", "openvino", "--model", str(folder), "--task", "text-generation-with-past"]
    _export([_tool(peers_dir, "openvino", "optimum-cli"), *words, "--weight-format", "int8"], target)


def export_litert_lm(peers_dir: Path, folder: Path, target: Path, sizes: tuple[int, int]) -> None:
    """sizes: positions of the cache, rows of the prefill graph. Weights: the exporter's default, dynamic INT8."""
    words = ["export_hf", f"--model={folder}", f"--prefill_lengths=[{sizes[1]}]", f"--cache_length={sizes[0]}"]
    _export([_tool(peers_dir, "litert_export", "litert-torch"), *words, "--bundle_litert_lm=True"], target)


def _tool(peers_dir: Path, environment: str, name: str) -> str:
    return str((peers_dir / f"venv_{environment}" / "bin" / name).absolute())


def _export(command: list[str], target: Path) -> None:
    """Runs an exporter; its folder gets its name when it is whole."""
    unfinished = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was stopped
    last = f"--output_dir={unfinished}" if "export_hf" in command else str(unfinished)
    _say(" ".join([*command, last]))
    subprocess.run([*command, last], env=os.environ | {"HF_HUB_OFFLINE": "1"}, check=True, stdout=sys.stderr)
    unfinished.rename(target)


def _say(what: str) -> None:
    print(f"peers: {what}", file=sys.stderr, flush=True)


def _shipped_gguf() -> Path:
    """The file that `make demo` converts."""
    sys.path.insert(0, "examples")
    return Path(importlib.import_module("demo").find_model())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers_dir", type=Path, default=Path(os.environ.get("PEERS_DIR", files.PEERS_DIR)))
    parser.add_argument("--gguf", type=Path, default=None, help="default: the model of `make demo`")
    parser.add_argument("--caches", default=",".join(map(str, CACHES)), help="positions of LiteRT-LM's exports")
    arguments = parser.parse_args()
    caches = [int(word) for word in arguments.caches.split(",")]
    models = arguments.peers_dir / files.MODELS
    make_models(models, arguments.gguf or _shipped_gguf(), arguments.peers_dir, caches)


if __name__ == "__main__":
    main()
