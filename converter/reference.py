"""The float32 model that a bundle came from, as `shadowattn eval --reference=MODEL` compares with it.

runtime/evaluate/model_reference.py says what is asked of it (duck-typed, found by its entry point). One layer's weights
are in memory at a time, and all windows go through it before the next is read.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from shadowattn.converter.assemble import FINAL_PREFIX, layer_prefix
from shadowattn.converter.calibrate import attend, load_parameters
from shadowattn.converter.formats import open_checkpoint
from shadowattn.converter.layers import AfterAttention, BeforeAttention, RmsNorm, Rope
from shadowattn.converter.weight_names import EMBEDDING, LM_HEAD
from shadowattn.models.families import read_config
from shadowattn.models.spec import ModelSpec


class FloatModel:
    """A checkpoint run in torch. spec: its facts, to compare with a bundle's."""

    def __init__(self, path: Path) -> None:
        """Reads headers. Raises ValueError in one sentence for what is no model that can be converted."""
        self._checkpoint = open_checkpoint(path)
        self.spec: ModelSpec = read_config(self._checkpoint.config, str(path))
        self._hidden: list[torch.Tensor] = []
        self._head: torch.Tensor | None = None

    @torch.inference_mode()
    def read(self, windows: Sequence[Sequence[int]], progress: Callable[[int, int], None]) -> None:
        """Runs windows of token ids, each from position 0, and keeps what the last norm gives.

        progress(done, total) counts layers.
        """
        spec, load = self.spec, self._checkpoint.read
        table = torch.from_numpy(load(EMBEDDING))
        states = [table[torch.tensor(list(window))][None] for window in windows]
        for layer in range(spec.num_layers):
            progress(layer, spec.num_layers)
            prefix = layer_prefix(layer)
            before = load_parameters(BeforeAttention(spec), prefix, load)
            after = load_parameters(AfterAttention(spec), prefix, load)
            for number, state in enumerate(states):
                angles = Rope(spec, state.shape[1])(torch.zeros(1, dtype=torch.int32))
                states[number] = after(attend(spec, before(state, **angles)), state)["residual"]
        progress(spec.num_layers, spec.num_layers)
        norm = load_parameters(RmsNorm(spec.hidden_size, spec.rms_norm_eps), f"{FINAL_PREFIX}norm.", load)
        self._hidden = [norm(state)[0] for state in states]
        self._head = table if spec.tied_embeddings else torch.from_numpy(load(LM_HEAD))

    @torch.inference_mode()
    def logits(self, window: int, start: int, stop: int) -> np.ndarray:
        """Rows start..stop-1 of a window that was read -> [n,vocab] float32."""
        assert self._head is not None, "read() comes first"
        return np.asarray((self._hidden[window][start:stop] @ self._head.T).numpy())
