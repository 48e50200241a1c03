"""The short default calibration: ~2,000 tokens of English through the float model, layer by layer.

Only one layer's weights are in memory at a time. What is measured: per layer, KV head and channel the mean of K (its
centre) and the spread of the INT8 keys, per layer and KV head the INT8 step of the centred K; over all queries the
one multiplier of the estimate graphs; and from sampled rows the thresholds of the heads (docs/calibration.md).
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from shadowattn.converter.assemble import layer_prefix
from shadowattn.converter.balance import PLACES, Balance, factors
from shadowattn.converter.layers import AfterAttention, BeforeAttention, Rope
from shadowattn.converter.observe import join_layers, observe_layer
from shadowattn.converter.vocabulary import EMBEDDING
from shadowattn.models import auto_threshold
from shadowattn.models.allocation import fit_factors
from shadowattn.models.observations import Observations
from shadowattn.models.plan import Plan
from shadowattn.models.reference import COARSE_SPREAD, SelectRule, quantize_keys
from shadowattn.models.spec import ModelSpec
from shadowattn.models.threshold_table import Forced, fit_table

DEFAULT_TOKENS = 2048
# A row's coarse scores spread over COARSE_SPREAD levels if its largest element fits INT8: the multiplier lets this
# share of the rows fit.
_ROWS_THAT_FIT = 0.95
_SMALLEST_STEP = 1e-12
_FEWEST_DISTINCT_TOKENS = 16


@dataclasses.dataclass(frozen=True)
class CalibrationText:
    """Token ids [n] int64 and where they come from, for the manifest."""

    description: str
    ids: np.ndarray


@dataclasses.dataclass
class _Statistics:
    """Results per layer, filled in order."""

    centre: list[np.ndarray]
    scale: list[np.ndarray]
    k_variance: list[np.ndarray]
    multipliers: list[np.ndarray]
    observed: list[Observations]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What the text told: the plan of the bundle, and how INT8 weights are balanced."""

    plan: Plan
    balance: Balance


def calibration_text(spec: ModelSpec, tokenizer_json: str | None) -> CalibrationText:
    """English prose that every Python has, in the model's own tokens; seeded random ids where that says nothing.

    That is so without a tokenizer, and with one that knows no English.
    """
    count = min(DEFAULT_TOKENS, spec.max_length)
    if tokenizer_json is not None:
        from pydoc_data.topics import topics

        from tokenizers import Tokenizer

        prose = "\n\n".join(topics[name] for name in sorted(topics))[: 16 * count]
        ids = Tokenizer.from_str(tokenizer_json).encode(prose).ids[:count]
        if len(set(ids)) >= _FEWEST_DISTINCT_TOKENS and max(ids) < spec.vocab_size:
            return CalibrationText("pydoc_data.topics", np.array(ids, np.int64))
    random_ids = np.random.default_rng(0).integers(0, spec.vocab_size, count)
    return CalibrationText("random token ids (seed 0)", random_ids.astype(np.int64))


def calibrate(
    spec: ModelSpec,
    load_weight: Callable[[str], np.ndarray],
    text: CalibrationText,
    progress: Callable[[int, int], None],
) -> Calibration:
    """Runs the text through the model. Raises ValueError if the model computes NaN."""
    statistics = _Statistics([], [], [], [], [])
    balance: dict[str, np.ndarray] = {}
    with torch.inference_mode():
        table = torch.from_numpy(load_weight(EMBEDDING))
        residual = table[torch.from_numpy(text.ids)][None]
        del table
        angles = Rope(spec, len(text.ids))(torch.zeros(1, dtype=torch.int32))
        for layer in range(spec.num_layers):
            before = _with_weights(BeforeAttention(spec), layer, load_weight)
            after = _with_weights(AfterAttention(spec), layer, load_weight)
            seen = _watch_inputs(before, after)
            qkv = _finite(before(residual, **angles), layer)
            _measure(spec, qkv["q"][0].numpy(), qkv["k"][0].numpy(), statistics)
            q, k, v = (qkv[name][0] for name in ("q", "k", "v"))
            statistics.observed.append(observe_layer(q, k, v, spec.softmax_scale, SelectRule()))
            residual = after(_attend(spec, qkv), residual)["residual"]
            balance |= {f"{layer}.{place}": factor for place, factor in _balance(before, after, seen).items()}
            progress(layer + 1, spec.num_layers)
    plan = Plan.uniform(
        num_heads=spec.num_heads,
        centre=np.stack(statistics.centre),
        scale=np.stack(statistics.scale),
        k_variance=np.stack(statistics.k_variance),
        estimate_multiplier=_multiplier(np.concatenate(statistics.multipliers)),
    )
    return Calibration(_fit_thresholds(plan, join_layers(statistics.observed), spec.max_length), Balance(balance))


def _fit_thresholds(plan: Plan, seen: Observations, max_length: int) -> Plan:
    """The plan with what follows from the observed rows; as it is where the text was too short for any."""
    if not seen.octaves:
        return plan
    rule = SelectRule()
    factors = fit_factors(seen)
    return dataclasses.replace(
        plan,
        auto_threshold=auto_threshold.expected(seen, factors),
        thresholds=fit_table(seen, factors, Forced(rule.min_k, rule.sinks, rule.latest), max_length),
        threshold_factors=factors,
        static_ranges=seen.ranges.astype(np.float32),
    )


def _finite(qkv: dict[str, torch.Tensor], layer: int) -> dict[str, torch.Tensor]:
    if not all(bool(torch.isfinite(tensor).all()) for tensor in qkv.values()):
        raise ValueError(
            f"calibration: layer {layer} computes NaN or infinity; the model's weights are damaged, get them again"
        )
    return qkv


def _attend(spec: ModelSpec, qkv: dict[str, torch.Tensor]) -> torch.Tensor:
    """Dense causal attention: q [1,T,H,d], k, v [1,T,N_kv,d] -> o [1,T,H*d]."""
    q, k, v = (qkv[name].transpose(1, 2) for name in ("q", "k", "v"))
    attended = functional.scaled_dot_product_attention(
        q, k, v, is_causal=True, scale=spec.softmax_scale, enable_gqa=spec.group_size > 1
    )
    return attended.transpose(1, 2).reshape(1, q.shape[2], spec.num_heads * spec.head_dim)


def _watch_inputs(*pieces: torch.nn.Module) -> dict[str, np.ndarray]:
    """Place -> largest absolute input per channel, filled when the pieces run."""
    seen: dict[str, np.ndarray] = {}
    modules = {name: module for piece in pieces for name, module in piece.named_modules()}
    for place, readers in PLACES.items():

        def note(_module: torch.nn.Module, given: tuple[torch.Tensor], place: str = place) -> None:
            seen[place] = given[0].abs().amax(dim=(0, 1)).numpy()

        modules[readers[0]].register_forward_pre_hook(note)
    return seen


def _balance(before: torch.nn.Module, after: torch.nn.Module, seen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Place -> factors of one layer."""
    weights = {name: tensor.numpy() for piece in (before, after) for name, tensor in piece.state_dict().items()}
    return {
        place: factors(seen[place], [weights[f"{reader}.weight"] for reader in readers])
        for place, readers in PLACES.items()
    }


def _with_weights(module: torch.nn.Module, layer: int, load_weight: Callable[[str], np.ndarray]) -> torch.nn.Module:
    for name, parameter in module.named_parameters():
        parameter.copy_(torch.from_numpy(load_weight(layer_prefix(layer) + name)))
    return module


def _spread_over_context(spec: ModelSpec, k: np.ndarray) -> np.ndarray:
    """k [T,N_kv,d] -> [2T,N_kv,d]: where it is, and turned on to positions all over the context.

    RoPE turns slow channels by a fraction of a circle within the calibration text and by much more in a long context:
    their mean and range there are others. A key at position p is that at p' turned by p - p'.
    """
    turns = np.arange(len(k)) * (spec.max_length / len(k) - 1)
    angles = turns[:, None, None] * np.array(spec.rope.inverse_frequencies(spec.head_dim))
    cos, sin = np.cos(angles), np.sin(angles)
    low, high = np.split(k.astype(np.float64), 2, axis=-1)
    turned = np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)
    return np.concatenate([k, turned.astype(np.float32)])


def _measure(spec: ModelSpec, q: np.ndarray, k: np.ndarray, statistics: _Statistics) -> None:
    """q [T,H,d], k [T,N_kv,d] of one layer."""
    k = _spread_over_context(spec, k)
    centre = k.mean(axis=0, dtype=np.float64).astype(np.float32)
    largest = np.abs(k - centre).max(axis=(0, 2))
    scale = np.maximum(largest / np.float32(127), np.float32(_SMALLEST_STEP)).astype(np.float32)
    k_i8, _ = quantize_keys(k, centre, scale)
    variance = k_i8.astype(np.float64).var(axis=0).astype(np.float32)
    statistics.centre.append(centre)
    statistics.scale.append(scale)
    statistics.k_variance.append(variance)
    per_head = np.repeat(variance, spec.group_size, axis=0)
    spread = np.sqrt((q.astype(np.float64) ** 2 * per_head).sum(axis=-1))
    q_largest = np.abs(q).max(axis=-1)
    usable = (spread > 0) & (q_largest > 0)
    statistics.multipliers.append(COARSE_SPREAD * q_largest[usable] / (127.0 * spread[usable]))


def _multiplier(wanted: np.ndarray) -> float:
    """score level per accumulator step: the multiplier at which most rows reach their full spread. Exact in float32."""
    value = np.quantile(wanted, _ROWS_THAT_FIT) if wanted.size else 1.0
    scores_scale = np.float32(1.0 / value)
    return float(np.float32(1.0) / scores_scale)
