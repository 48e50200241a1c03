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

# What reads an input -> every matrix that reads the same.
READERS: Mapping[str, tuple[str, ...]] = {
    "self_attn.q_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.o_proj": ("self_attn.o_proj",),
    "mlp.gate_proj": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down_proj": ("mlp.down_proj",),
}


@dataclasses.dataclass(frozen=True)
class LayerRounder:
    """Takes each layer's inputs: decides on the order of the channels before its down projection, and rounds its
    matrices into `folder`, one file each. folder None: they are left to be rounded to the nearest.

    load: float32 weights by name, not rotated. orders: filled layer by layer.
    """

    rotation: Rotation
    load: Load
    folder: Path | None
    orders: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)

    def take(self, layer: int, inputs: Mapping[str, torch.Tensor]) -> None:
        """inputs: key of READERS -> [1,T,n], in the rotated basis and not mixed."""
        down, block = inputs["mlp.down_proj"], down_block(self.rotation.spec)
        order = deal_channels(down.square().mean(dim=(0, 1)).numpy(), block)
        self.orders[layer] = order
        if self.folder is None:
            return
        load = self.rotation.mixed({layer: order}).wrap(self.load)
        mixed = {**inputs, "mlp.down_proj": torch.from_numpy(mix_blocks(down.numpy()[..., order], block))}
        for first, readers in READERS.items():
            second_moments = moments(mixed[first])
            for reader in readers:
                self._round(self.folder, load, f"{layer_prefix(layer)}{reader}.weight", second_moments)

    def take_head(self, hidden: torch.Tensor) -> None:
        """hidden [1,T,D]: what the last norm gives, in the rotated basis. An embedding that lm_head shares is rounded
        for lm_head: as embedding it loses next to nothing either way."""
        if self.folder is None:
            return
        tied = self.rotation.spec.tied_embeddings
        load = self.rotation.wrap(self.load)
        inputs = hidden @ torch.from_numpy(load(HEAD_ROTATION)).T if tied else hidden
        self._round(self.folder, load, EMBEDDING if tied else LM_HEAD, moments(inputs))

    def _round(self, folder: Path, load: Load, name: str, second_moments: torch.Tensor) -> None:
        stored = round_to_int8(load(name), second_moments)
        np.savez(_file_of(folder, name), data=stored.data, scale=np.asarray(stored.scale))

    def weights(self, recipe: Recipe) -> Callable[[str], StoredWeight]:
        """Name -> the weight as it is written, once every layer was taken."""
        load = self.rotation.mixed(self.orders).wrap(self.load)

        def stored(name: str) -> StoredWeight:
            if self.folder is not None and (file := _file_of(self.folder, name)).is_file():
                with np.load(file) as arrays:
                    return StoredWeight(arrays["data"], arrays["scale"])
            return recipe.store(name, load(name))

        return stored


def _file_of(folder: Path, name: str) -> Path:
    return folder / f"{name}.npz"
