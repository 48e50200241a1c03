"""The matrices of a model, rounded one layer at a time while the calibration text runs through it, lm_head last."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from shadowattn.converter.assemble import layer_prefix
from shadowattn.converter.recipes import Recipe, StoredWeight
from shadowattn.converter.rotation import Load, Rotation, deal_channels, down_block, mix_blocks
from shadowattn.converter.rounding import moments, round_to_int8
from shadowattn.converter.weight_names import EMBEDDING, HEAD_ROTATION, LM_HEAD
from shadowattn.models.spec import ModelSpec

# The first that reads an input -> every matrix that reads the same.
READERS: Mapping[str, tuple[str, ...]] = {
    "self_attn.q_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.o_proj": ("self_attn.o_proj",),
    "mlp.gate_proj": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down_proj": ("mlp.down_proj",),
}
# Of inputs that come out of a norm: what they have in common is taken from them there (ShiftedNorm).
_NORMS = {"self_attn.q_proj": "input_layernorm", "mlp.gate_proj": "post_attention_layernorm"}


@dataclasses.dataclass(frozen=True)
class LayerRounder:
    """Takes each layer's inputs: decides on the order of the channels before its down projection and on what its norms
    shift, and rounds its matrices into `folder`, one file each. folder None: to the nearest, when they are written.

    load: float32 weights by name, not rotated. orders, vectors (shifts, and biases that make up for them and for the
    rounding): filled layer by layer.
    """

    rotation: Rotation
    recipe: Recipe
    load: Load
    folder: Path | None
    orders: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    vectors: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def take(self, layer: int, inputs: Mapping[str, torch.Tensor]) -> None:
        """inputs: key of READERS -> [1,T,n], in the rotated basis and not mixed."""
        down, block = inputs["mlp.down_proj"], down_block(self.rotation.spec)
        order = deal_channels(down.square().mean(dim=(0, 1)).numpy(), block)
        self.orders[layer] = order
        load = self.rotation.mixed({layer: order}).wrap(self.load)
        mixed = {**inputs, "mlp.down_proj": torch.from_numpy(mix_blocks(down.numpy()[..., order], block))}
        for first, readers in READERS.items():
            rows = mixed[first][0]
            common = rows.mean(dim=0)
            second_moments = moments(rows - common)
            for reader in readers:
                name = f"{layer_prefix(layer)}{reader}"
                weight = load(f"{name}.weight")
                stored = self._round(f"{name}.weight", weight, second_moments)
                lost = weight if first in _NORMS else weight - stored.dequantized()
                before = load(f"{name}.bias") if has_bias(self.rotation.spec, reader) else np.float32(0)
                self.vectors[f"{name}.bias"] = before + lost @ common.numpy()
            if first in _NORMS:
                self.vectors[f"{layer_prefix(layer)}{_NORMS[first]}.shift"] = common.numpy()

    def take_head(self, hidden: torch.Tensor) -> None:
        """hidden [1,T,D]: what the last norm gives, in the rotated basis. An embedding that lm_head shares is rounded
        for lm_head: as embedding it loses next to nothing either way."""
        if self.folder is None:
            return
        tied = self.rotation.spec.tied_embeddings
        load = self.rotation.wrap(self.load)
        inputs = hidden @ torch.from_numpy(load(HEAD_ROTATION)).T if tied else hidden
        name = EMBEDDING if tied else LM_HEAD
        self._round(name, load(name), moments(inputs))

    def _round(self, name: str, weight: np.ndarray, second_moments: torch.Tensor) -> StoredWeight:
        if self.folder is None:
            return self.recipe.store(name, weight)
        stored = round_to_int8(weight, second_moments)
        np.savez(_file_of(self.folder, name), data=stored.data, scale=np.asarray(stored.scale))
        return stored

    def weights(self) -> Callable[[str], StoredWeight]:
        """Name -> the weight as it is written, once every layer was taken."""
        load = self.rotation.mixed(self.orders).wrap(self.load)

        def stored(name: str) -> StoredWeight:
            if name in self.vectors:
                return StoredWeight(self.vectors[name])
            if self.folder is not None and (file := _file_of(self.folder, name)).is_file():
                with np.load(file) as arrays:
                    return StoredWeight(arrays["data"], arrays["scale"])
            return self.recipe.store(name, load(name))

        return stored


def has_bias(spec: ModelSpec, module: str) -> bool:
    """Whether a layer's linear layer has a bias in the checkpoint."""
    if module == "self_attn.o_proj":
        return spec.output_bias
    return spec.qkv_bias if module.startswith("self_attn.") else spec.mlp_bias


def _file_of(folder: Path, name: str) -> Path:
    return folder / f"{name}.npz"
