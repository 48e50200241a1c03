"""A GGUF file: metadata -> config with Hugging Face's keys, quantised tensors -> float32 under Hugging Face's names."""

import functools
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np

from shadowattn.converter.checkpoint import Checkpoint, Origin, Shape, TokenizerFiles, finite
from shadowattn.converter.gguf_config import config_from_metadata
from shadowattn.converter.gguf_file import name_of, read_gguf
from shadowattn.converter.gguf_stop_tokens import stop_token_ids
from shadowattn.converter.gguf_tokenizer import tokenizer_files
from shadowattn.converter.gguf_vocabulary import named_id, read_vocabulary
from shadowattn.converter.sampling import of_gguf
from shadowattn.converter.weight_names import EMBEDDING, LM_HEAD

_TOP_LEVEL = {"token_embd.weight": EMBEDDING, "output_norm.weight": "model.norm.weight", "output.weight": LM_HEAD}
_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_ROPE_DIVISORS = "rope_freqs.weight"


class GgufCheckpoint(Checkpoint):
    """Opens the file (memory-mapped): metadata and the tensor table are read, no weights."""

    def __init__(self, path: Path) -> None:
        self.path = path
        file = read_gguf(path)
        self.metadata = file.metadata
        self._vocabulary = read_vocabulary(path, self.metadata)
        self._tensors = {_hf_name(path, tensor.name): tensor for tensor in file.tensors}
        divisors = self._tensors.pop(_ROPE_DIVISORS, None)
        self.config = config_from_metadata(
            path, self.metadata, self.shapes(), None if divisors is None else np.array(divisors.data)
        )
        named = self._vocabulary.special_id if self._vocabulary else functools.partial(named_id, self.metadata)
        self.bos_token_id = named("bos")
        self.stop_token_ids = stop_token_ids(self.metadata, self._vocabulary)
        self.sampling, self.warnings = of_gguf(path, self.metadata)

    @property
    def origin(self) -> Origin:
        """As the file's metadata states it."""
        stated = {key: value for key, value in self.metadata.items() if isinstance(value, str) and value}
        name = stated.get("general.name", name_of(self.path))
        links = ("general.repo_url", "general.source.url", "general.url", "general.base_model.0.repo_url")
        link = next((stated[key] for key in links if key in stated), None)
        source = f"{self.path.name} ({link})" if link else self.path.name
        return Origin(name, source, stated.get("general.license", "unknown (the file does not say)"))

    def shapes(self) -> Mapping[str, Shape]:
        """Every weight by its Hugging Face name; GGUF counts dimensions from the innermost."""
        return {name: tuple(int(size) for size in reversed(t.shape)) for name, t in self._tensors.items()}

    def read(self, name: str) -> np.ndarray:
        """One weight, dequantised to float32, with llama.cpp's row order of q and k undone."""
        tensor = self._tensors[name]
        weight = np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type), np.float32)
        weight = weight.reshape(tuple(int(size) for size in reversed(tensor.shape)))
        if self.metadata["general.architecture"] == "llama":
            weight = self._undo_permutation(name, weight)
        return finite(weight, f"{self.path}: weight {tensor.name}")

    def tokenizer(self) -> TokenizerFiles | None:
        """The tokenizer in the metadata."""
        return tokenizer_files(self._vocabulary) if self._vocabulary else None

    def _undo_permutation(self, name: str, weight: np.ndarray) -> np.ndarray:
        """llama.cpp interleaves the first and the second half of each head's rows of q and k."""
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
        for part, key in heads.items():
            if f".{part}." in name:
                count = self.config[key]
                rows = weight.reshape(count, weight.shape[0] // count // 2, 2, *weight.shape[1:])
                return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(weight.shape)
        return weight


def _hf_name(path: Path, name: str) -> str:
    """blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight. Raises ValueError for a name without a place."""
    if name == _ROPE_DIVISORS:
        return name
    if name in _TOP_LEVEL:
        return _TOP_LEVEL[name]
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[1].isdigit() and parts[2] in _IN_LAYER:
        return f"model.layers.{parts[1]}.{_IN_LAYER[parts[2]]}.{parts[3]}"
    raise ValueError(f"{path}: tensor {name} has no place in a supported architecture; the model cannot be converted")
