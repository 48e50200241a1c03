"""GGUF files of tiny models, written as llama.cpp's converter would."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np

_ARCHITECTURES = {
    "llama": "llama",
    "llama3_rope": "llama",
    "llama_linear_mha_tied": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
}
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    stem, kind = name.rsplit(".", 1)
    if stem in _NAMES:
        return f"{_NAMES[stem]}.{kind}"
    _, _, layer, inner = stem.split(".", 3)
    return f"blk.{layer}.{_NAMES[inner]}.{kind}"


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """The row order that llama.cpp's converter gives q and k of Llama models."""
    shape = (heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return weight.reshape(shape).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(
    path: Path,
    model: Any,
    family: str = "llama",
    kind: str = "F32",
    fields: dict[str, Any] | None = None,
    tensors: dict[str, np.ndarray] | None = None,
    **layout: Any,
) -> Path:
    """Writes `model` (transformers) as a GGUF file. fields: metadata to change, None leaves one out.

    layout: what GGUFWriter takes besides, such as its byte order or the tensors of a part.
    """
    config, name = model.config, _ARCHITECTURES[family]
    writer = gguf.GGUFWriter(path, name, **layout)
    metadata: dict[str, Any] = {
        f"{name}.block_count": config.num_hidden_layers,
        f"{name}.context_length": config.max_position_embeddings,
        f"{name}.embedding_length": config.hidden_size,
        f"{name}.feed_forward_length": config.intermediate_size,
        f"{name}.attention.head_count": config.num_attention_heads,
        f"{name}.attention.head_count_kv": config.num_key_value_heads,
        f"{name}.attention.key_length": getattr(config, "head_dim", None)
        or config.hidden_size // config.num_attention_heads,
        f"{name}.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        f"{name}.rope.freq_base": config.rope_parameters["rope_theta"],
        f"{name}.vocab_size": config.vocab_size,
        "general.name": "Tiny",
        "general.license": "apache-2.0",
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.eot_token_id": 5,
    } | (fields or {})
    for key, value in metadata.items():
        if value is not None:
            _adder(writer, value)(key, value)
    for hf, parameter in model.state_dict().items():
        weight = parameter.numpy()
        if name == "llama" and ".q_proj." in hf:
            weight = permuted(weight, config.num_attention_heads)
        if name == "llama" and ".k_proj." in hf:
            weight = permuted(weight, config.num_key_value_heads)
        _add(writer, gguf_name(hf), weight, kind)
    for extra, array in (tensors or {}).items():
        writer.add_tensor(extra, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _adder(writer: gguf.GGUFWriter, value: Any) -> Any:
    """The method that writes a value of this type; llama.cpp's counts are unsigned."""
    return {str: writer.add_string, float: writer.add_float32, list: writer.add_array, bool: writer.add_bool}.get(
        type(value), writer.add_uint32
    )


def _add(writer: gguf.GGUFWriter, name: str, weight: np.ndarray, kind: str) -> None:
    qtype = gguf.GGMLQuantizationType[kind]
    block = gguf.GGML_QUANT_SIZES[qtype][0]
    if weight.ndim == 1 or weight.shape[-1] % block:
        qtype = gguf.GGMLQuantizationType.F32
    writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(weight), qtype), raw_dtype=qtype)
