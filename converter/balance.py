"""Balancing: outlier channels are moved from activations into weights, which INT8 hurts less there.

LiteRT quantises the input of an INT8 linear layer at run time with one scale per row, so one large channel costs all
others their precision. Scaling channel c of the input by 1 / s_c and column c of the weight by s_c changes nothing in
exact arithmetic, and costs nothing: the division goes into the norm, or into the rows of up_proj, before it. s_c is
sqrt(largest input / largest weight) of the channel (SmoothQuant, arXiv 2211.10438, at its default strength of 0.5).
Measured on SmolLM2-135M (2,048 tokens of held-out text, KL divergence from float32): see docs/converter.md.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

LIMIT = 64.0
_SMALLEST = 1e-5

# Where in a layer inputs are balanced -> the linear layers that read that input.
PLACES: Mapping[str, tuple[str, ...]] = {
    "attention": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "mlp": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
# What writes that input and can take the division.
_WRITERS: Mapping[str, str] = {
    "attention": "input_layernorm",
    "mlp": "post_attention_layernorm",
    "down": "mlp.up_proj",
}


@dataclasses.dataclass(frozen=True)
class Balance:
    """layer prefix + place -> s [channels]. Empty: nothing is balanced."""

    factors: Mapping[str, np.ndarray]

    def wrap(self, load_weight: Callable[[str], np.ndarray]) -> Callable[[str], np.ndarray]:
        """The same loader with balanced weights."""
        return (lambda name: self.apply(name, load_weight(name))) if self.factors else load_weight

    def apply(self, name: str, weight: np.ndarray) -> np.ndarray:
        """One weight, balanced: columns times the factors of its input, rows over those of its output."""
        if not name.startswith("model.layers."):
            return weight
        _, _, layer, inner = name.split(".", 3)
        module, kind = inner.rsplit(".", 1)
        for place, readers in PLACES.items():
            factor = self.factors.get(f"{layer}.{place}")
            if factor is None:
                continue
            if module in readers and kind == "weight":
                weight = weight * factor[None, :]
            if module == _WRITERS[place]:
                weight = weight / (factor[:, None] if weight.ndim == 2 else factor)
        return np.ascontiguousarray(weight, np.float32)


def factors(inputs: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """inputs [channels]: largest absolute input seen; weights [rows,channels] that read it -> s [channels].

    The geometric mean of s is 1, and every s is within LIMIT of it.
    """
    largest_weight = np.max([np.abs(weight).max(axis=0) for weight in weights], axis=0)
    ratio = _floored(inputs) / _floored(largest_weight)
    s = np.sqrt(ratio)
    s /= np.exp(np.log(s).mean())
    return np.clip(s, 1 / LIMIT, LIMIT).astype(np.float32)


def _floored(values: np.ndarray) -> np.ndarray:
    """No channel counts as smaller than a tiny part of the largest (and none as zero)."""
    values = values.astype(np.float64)
    return np.maximum(values, max(values.max() * _SMALLEST, 1e-30))
