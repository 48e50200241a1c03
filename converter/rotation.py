"""Rotation: the same model in a basis where no channel stands out, so that INT8 activations lose little.

LiteRT quantises the input of an INT8 linear layer with one scale per row, and a language model's residual stream has a
few channels many times as large as the others. An orthogonal matrix of the residual stream, and one of each layer's
values, spread them over all channels. Both are merged into the weights, in exact arithmetic the function stays, and
nothing is computed at run time that was not before, with two exceptions: the input of the down projection, which no
matrix before the SiLU can reach, is mixed by small Hadamard blocks in the graph (`down_block`), and a table that
embedding and lm_head share needs one product of D x D for each row whose logits are wanted (HEAD_ROTATION).

The norms' weights are folded into the linear layers behind them, since a norm without weights commutes with a
rotation; they subtract a vector instead (converter/rounded_layers.py). Prior work: QuaRot (arXiv 2404.00456) and
SpinQuant (2405.16406) merge rotations this way; DuQuant (2406.01721) deals channels out to blocks by size.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from shadowattn.converter.orthogonal import Orthogonal, hadamard, random_orthogonal
from shadowattn.converter.weight_names import EMBEDDING, HEAD_ROTATION, LM_HEAD
from shadowattn.models.spec import ModelSpec

Load = Callable[[str], np.ndarray]

_SEED = 0
_FINAL_NORM = "model.norm.weight"
_LARGEST_BLOCK = 16  # measured: docs/converter.md

# The norm whose weight goes into a linear layer that reads the residual stream.
_READS_RESIDUAL = {
    "self_attn.q_proj": "input_layernorm",
    "self_attn.k_proj": "input_layernorm",
    "self_attn.v_proj": "input_layernorm",
    "mlp.gate_proj": "post_attention_layernorm",
    "mlp.up_proj": "post_attention_layernorm",
}
_WRITES_RESIDUAL = ("self_attn.o_proj", "mlp.down_proj")
_NORMS = ("input_layernorm", "post_attention_layernorm")


def down_block(spec: ModelSpec) -> int:
    """Size of the Hadamard blocks before the down projection: the largest power of two that divides its input, up to
    16; 1 where that is odd."""
    size = spec.intermediate_size
    return min(size & -size, _LARGEST_BLOCK)


def deal_channels(magnitude: np.ndarray, block: int) -> np.ndarray:
    """magnitude [n] of the channels -> order [n] that gives every block of `block` channels its share of large ones:
    by size, they are dealt to the blocks forwards, then backwards, and so on."""
    dealt = np.argsort(-magnitude, kind="stable").reshape(block, -1)
    dealt[1::2] = dealt[1::2, ::-1]
    return dealt.T.reshape(-1)


@dataclasses.dataclass(frozen=True)
class Rotation:
    """residual: of the residual stream [D]; values: of a layer's value heads [d], one for all heads of a layer.

    orders: layer -> order [intermediate_size] of the channels before the down projection. A layer without an order is
    not mixed: so calibration sees it (converter/calibrate.py), from which the orders come.
    """

    spec: ModelSpec
    residual: Orthogonal
    values: tuple[Orthogonal, ...]
    orders: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)

    def wrap(self, load: Load) -> Load:
        """The same loader in the rotated basis; it has HEAD_ROTATION too, where embeddings are tied."""
        return lambda name: self._rotated(load, name)

    def mixed(self, orders: Mapping[int, np.ndarray]) -> "Rotation":
        """The same, with mixing before the down projections."""
        return dataclasses.replace(self, orders=orders)

    def _rotated(self, load: Load, name: str) -> np.ndarray:
        if name == HEAD_ROTATION:
            return _conjugated(self.residual, load(_FINAL_NORM))
        weight = load(name)
        if name == EMBEDDING:
            return self.residual.apply(weight)
        if name == LM_HEAD:
            return self.residual.apply(weight * load(_FINAL_NORM))
        if name == _FINAL_NORM:
            return np.ones_like(weight)
        _, _, layer, inner = name.split(".", 3)
        module, kind = inner.rsplit(".", 1)
        if module in _NORMS:
            return np.ones_like(weight)
        if module in _READS_RESIDUAL and kind == "weight":
            weight = self.residual.apply(weight * load(f"model.layers.{layer}.{_READS_RESIDUAL[module]}.weight"))
        return self._within(int(layer), module, kind, weight)

    def _within(self, layer: int, module: str, kind: str, weight: np.ndarray) -> np.ndarray:
        """What happens to rows and columns that do not read the residual stream; kind: weight or bias."""
        spec, order = self.spec, self.orders.get(layer)
        if module == "self_attn.v_proj":
            heads = weight.reshape(spec.num_kv_heads, spec.head_dim, -1)
            weight = np.stack([self.values[layer].apply_to_rows(head) for head in heads]).reshape(weight.shape)
        if module == "self_attn.o_proj" and kind == "weight":
            heads = weight.reshape(len(weight), spec.num_heads, spec.head_dim)
            weight = self.values[layer].apply(heads).reshape(weight.shape)
        if order is not None and module in ("mlp.gate_proj", "mlp.up_proj"):
            weight = weight[order]
        if order is not None and module == "mlp.down_proj" and kind == "weight":
            weight = mix_blocks(weight[:, order], down_block(spec))
        if module in _WRITES_RESIDUAL:
            weight = self.residual.apply_to_rows(weight)
        return np.ascontiguousarray(weight, np.float32)


def random_rotation(spec: ModelSpec, seed: int = _SEED) -> Rotation:
    """Random matrices of the model's sizes."""
    rng = np.random.default_rng(seed)
    residual = random_orthogonal(spec.hidden_size, rng)
    return Rotation(spec, residual, tuple(random_orthogonal(spec.head_dim, rng) for _ in range(spec.num_layers)))


def mix_blocks(x: np.ndarray, block: int) -> np.ndarray:
    """x [...,n] -> the same with every `block` neighbours of the last axis multiplied by a Hadamard matrix."""
    blocks = x.reshape(*x.shape[:-1], -1, block)
    return np.asarray(blocks @ hadamard(block)).reshape(x.shape)


def _conjugated(matrix: Orthogonal, diagonal: np.ndarray) -> np.ndarray:
    """R^T diag R, symmetric."""
    return matrix.apply_to_rows(matrix.apply(np.diag(diagonal)))
