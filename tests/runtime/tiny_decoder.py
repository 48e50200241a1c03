"""A tiny random decoder in NumPy: its weights, its forward pass (float64, the oracle) and its calibration."""

import dataclasses

import numpy as np

from shadowattn.models.grid_fit import fit_grid
from shadowattn.models.oracle import steps
from shadowattn.models.oracle.grid import Projections
from shadowattn.models.oracle.shadow import Chunk, ShadowRule, shadow_attention
from shadowattn.models.oracle.steps import SelectRule
from shadowattn.models.plan import Plan
from shadowattn.models.spec import ModelSpec

Weights = dict[str, np.ndarray]


def random_weights(spec: ModelSpec, seed: int) -> Weights:
    """float32 weights [out, in] by name, sized so that activations stay near 1 and attention is not flat."""
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int, gain: float = 1.0) -> np.ndarray:
        return (gain * rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    def norm(size: int) -> np.ndarray:
        return rng.uniform(0.5, 1.5, size).astype(np.float32)

    hidden, wide = spec.hidden_size, spec.num_heads * spec.head_dim
    narrow = spec.num_kv_heads * spec.head_dim
    weights = {"embed": rng.standard_normal((spec.vocab_size, hidden)).astype(np.float32)}
    for i in range(spec.num_layers):
        weights |= {
            f"{i}.attention_norm": norm(hidden),
            f"{i}.q": matrix(wide, hidden, 1.5),
            f"{i}.k": matrix(narrow, hidden, 1.5),
            f"{i}.v": matrix(narrow, hidden),
            f"{i}.o": matrix(hidden, wide),
            f"{i}.mlp_norm": norm(hidden),
            f"{i}.gate": matrix(spec.intermediate_size, hidden),
            f"{i}.up": matrix(spec.intermediate_size, hidden),
            f"{i}.down": matrix(hidden, spec.intermediate_size),
        }
    return weights | {"final_norm": norm(hidden), "lm_head": matrix(spec.vocab_size, hidden, 2.0)}


@dataclasses.dataclass(frozen=True)
class TinyDecoder:
    """The oracle of a tiny bundle: the same decoder in float64, one shot, no cache, no chunks."""

    spec: ModelSpec
    weights: Weights

    def forward(
        self, tokens: list[int], rule: ShadowRule | None = None, plan: Plan | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """tokens [n] -> (hidden [n,D] after the final norm, logits [n,vocab]).

        rule None is dense; with a rule and a plan it is mode shadow in the fused form.
        """
        x = self.weights["embed"][tokens].astype(np.float64)
        for layer in range(self.spec.num_layers):
            q, k, v = self.project(x, layer)
            scale = self.spec.softmax_scale
            if rule is not None and plan is not None:
                rows = (array.astype(np.float32) for array in (q, k, v))
                o = shadow_attention(Chunk(*rows, plan, scale, layer), rule).out
            else:
                o = steps.sparse_attention(q, k, v, None, SelectRule(), scale)
            x = self.finish_layer(x, o, layer)
        hidden = self._norm(x, "final_norm")
        return hidden, hidden @ self.weights["lm_head"].T.astype(np.float64)

    def logprobs(self, tokens: list[int]) -> np.ndarray:
        """[n-1] log p of token i+1 given tokens 0 .. i, dense."""
        logits = self.forward(tokens)[1][:-1]
        shifted = logits - logits.max(axis=-1, keepdims=True)
        normal = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return normal[np.arange(len(tokens) - 1), tokens[1:]]

    def project(self, x: np.ndarray, layer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x [n,D] -> q [n,H,d], k [n,N_kv,d], v [n,N_kv,d], RoPE applied to q and k."""
        spec = self.spec
        h = self._norm(x, f"{layer}.attention_norm")
        q = self._linear(h, f"{layer}.q").reshape(len(x), spec.num_heads, spec.head_dim)
        k = self._linear(h, f"{layer}.k").reshape(len(x), spec.num_kv_heads, spec.head_dim)
        v = self._linear(h, f"{layer}.v").reshape(len(x), spec.num_kv_heads, spec.head_dim)
        return self._rotate(q), self._rotate(k), v

    def finish_layer(self, x: np.ndarray, o: np.ndarray, layer: int) -> np.ndarray:
        """x [n,D] and attention's o [n,H*d] -> the residual stream after the layer."""
        x = x + self._linear(o, f"{layer}.o")
        h = self._norm(x, f"{layer}.mlp_norm")
        gate = self._linear(h, f"{layer}.gate")
        return x + self._linear(gate / (1 + np.exp(-gate)) * self._linear(h, f"{layer}.up"), f"{layer}.down")

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.weights[name].T.astype(np.float64)

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.spec.rms_norm_eps) * self.weights[name]

    def _rotate(self, x: np.ndarray) -> np.ndarray:
        half = self.spec.head_dim // 2
        frequencies = np.array(self.spec.rope.inverse_frequencies(self.spec.head_dim), np.float32).astype(np.float64)
        angles = np.arange(len(x))[:, None, None] * frequencies
        low, high = x[..., :half], x[..., half:]
        return np.concatenate(
            [low * np.cos(angles) - high * np.sin(angles), high * np.cos(angles) + low * np.sin(angles)], -1
        )


def calibrate(decoder: TinyDecoder, seed: int, length: int = 96) -> Plan:
    """A plan fitted on random tokens, as the converter's calibration would fit it on text."""
    spec = decoder.spec
    tokens = np.random.default_rng(seed).integers(0, spec.vocab_size, length).tolist()
    x = decoder.weights["embed"][tokens].astype(np.float64)
    centres, scales, variances, multipliers, chunks = [], [], [], [], []
    for layer in range(spec.num_layers):
        q, k, v = decoder.project(x, layer)
        chunks.append(Projections.sampled(q.astype(np.float32), k.astype(np.float32), length))
        centre = k.mean(0).astype(np.float32)
        scale = (1.2 * np.abs(k - centre).max((0, 2)) / 127).astype(np.float32)
        k_i8, _ = steps.quantize_keys(k.astype(np.float32), centre, scale)
        variance = k_i8.astype(np.float32).var(0)
        spread = np.sqrt(np.einsum("thd,hd->th", q * q, np.repeat(variance, spec.group_size, 0)))
        widest = 127 / np.abs(q).max(-1)
        multipliers.append(np.median(steps.COARSE_SPREAD / (0.5 * widest * spread)))
        centres.append(centre)
        scales.append(scale)
        variances.append(variance)
        o = steps.sparse_attention(q, k, v, None, SelectRule(1.0), spec.softmax_scale)
        x = decoder.finish_layer(x, o, layer)
    multiplier = float(np.float32(np.mean(multipliers)))
    plan = Plan.uniform(spec.num_heads, np.stack(centres), np.stack(scales), np.stack(variances), multiplier)
    return dataclasses.replace(plan, grid=fit_grid(chunks))
