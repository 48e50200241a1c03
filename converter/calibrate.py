"""The short default calibration: ~2,000 tokens of English through the float model, layer by layer.

Only one layer's weights are in memory at a time. What is measured: per layer, KV head and channel the mean of K (its
centre) and the spread of the INT8 keys, per layer and KV head the INT8 step of the centred K; over all queries the
one multiplier of the estimate graphs; from sampled rows the thresholds of the heads (docs/calibration.md), and the
bucket grid (models/grid_fit.py). For the grid the keys of every layer and a sixteenth of its queries stay in memory.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from shadowattn.converter.assemble import layer_prefix
from shadowattn.converter.calibration_text import CalibrationText
from shadowattn.converter.layers import AfterAttention, BeforeAttention, RmsNorm, Rope
from shadowattn.converter.observe import join_layers, observe_layer
from shadowattn.converter.rounded_layers import READERS, LayerRounder
from shadowattn.converter.weight_names import EMBEDDING
from shadowattn.models import auto_threshold
from shadowattn.models.allocation import fit_factors
from shadowattn.models.grid_fit import PAPER_MULTIPLIERS, fit_grid, report_heads, summary
from shadowattn.models.observations import Observations
from shadowattn.models.oracle.grid import Projections
from shadowattn.models.oracle.steps import COARSE_SPREAD, SelectRule, quantize_keys
from shadowattn.models.plan import Plan
from shadowattn.models.spec import ModelSpec
from shadowattn.models.threshold_table import Forced, fit_table

# A row's coarse scores spread over COARSE_SPREAD levels if its largest element fits INT8: the multiplier lets this
# share of the rows fit.
_ROWS_THAT_FIT = 0.95
_SMALLEST_STEP = 1e-12
_GRID_ROWS = 16  # of each chunk


@dataclasses.dataclass
class _Statistics:
    """Results per layer, filled in order."""

    centre: list[np.ndarray]
    scale: list[np.ndarray]
    k_variance: list[np.ndarray]
    multipliers: list[np.ndarray]
    observed: list[Observations]
    chunks: list[list[Projections]]  # of each layer


@dataclasses.dataclass(frozen=True)
class GridChoice:
    """multipliers of the mean scales, none for no grid; chunk: T for which scales are measured."""

    multipliers: tuple[float, ...] = PAPER_MULTIPLIERS
    chunk: int = 256


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The plan that the text gives, and what the grid's static scales cost the heads, for the manifest."""

    plan: Plan
    grid_facts: Mapping[str, Any]


def calibrate(
    spec: ModelSpec,
    load_weight: Callable[[str], np.ndarray],
    text: CalibrationText,
    progress: Callable[[int, int], None],
    grid: GridChoice | None = None,
    rounder: LayerRounder | None = None,
) -> Calibration:
    """Runs the text through the model. rounder: is given the inputs of every linear layer, where load_weight rotates.
    Raises ValueError if the model computes NaN."""
    grid = grid or GridChoice()
    statistics = _Statistics([], [], [], [], [], [])
    with torch.inference_mode():
        table = torch.from_numpy(load_weight(EMBEDDING))
        residual = table[torch.from_numpy(text.ids)][None]
        del table
        angles = Rope(spec, len(text.ids))(torch.zeros(1, dtype=torch.int32))
        for layer in range(spec.num_layers):
            before = load_parameters(BeforeAttention(spec), layer_prefix(layer), load_weight)
            after = load_parameters(AfterAttention(spec), layer_prefix(layer), load_weight)
            seen = _watch_inputs(before, after)
            qkv = _finite(before(residual, **angles), layer)
            _measure(spec, qkv["q"][0].numpy(), qkv["k"][0].numpy(), statistics)
            q, k, v = (qkv[name][0] for name in ("q", "k", "v"))
            statistics.observed.append(observe_layer(q, k, v, spec.softmax_scale, SelectRule()))
            if grid.multipliers:
                statistics.chunks.append(_chunks(q.numpy(), k.numpy(), grid.chunk))
            residual = after(attend(spec, qkv), residual)["residual"]
            if rounder is not None:
                rounder.take(layer, seen)
            progress(layer + 1, spec.num_layers)
        if rounder is not None:
            rounder.take_head(RmsNorm(spec.hidden_size, spec.rms_norm_eps, folded=True)(residual))
    plan = Plan.uniform(
        num_heads=spec.num_heads,
        centre=np.stack(statistics.centre),
        scale=np.stack(statistics.scale),
        k_variance=np.stack(statistics.k_variance),
        estimate_multiplier=_multiplier(np.concatenate(statistics.multipliers)),
    )
    plan = _fit_thresholds(plan, join_layers(statistics.observed), spec.max_length)
    plan, facts = _fit_grid(plan, statistics.chunks, grid)
    return Calibration(plan, facts)


def _chunks(q: np.ndarray, k: np.ndarray, length: int) -> list[Projections]:
    """q [T,H,d], k [T,N_kv,d] of one layer, chunk by chunk."""
    keys = k.copy()
    return [
        Projections.sampled(q[start : start + length], keys[: min(start + length, len(k))], _GRID_ROWS)
        for start in range(0, len(q), length)
    ]


def _fit_grid(plan: Plan, layers: list[list[Projections]], grid: GridChoice) -> tuple[Plan, dict[str, Any]]:
    """The plan with its grid, and the facts."""
    if not grid.multipliers:
        return plan, {}
    fitted = fit_grid([chunk for chunks in layers for chunk in chunks], grid.multipliers)
    heads = summary([report_heads(chunks, fitted) for chunks in layers])
    facts = {"multipliers": list(grid.multipliers), "chunk": grid.chunk, **heads}
    return dataclasses.replace(plan, grid=fitted), facts


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


def attend(spec: ModelSpec, qkv: dict[str, torch.Tensor]) -> torch.Tensor:
    """Dense causal attention: q [1,T,H,d], k, v [1,T,N_kv,d] -> o [1,T,H*d]."""
    q, k, v = (qkv[name].transpose(1, 2) for name in ("q", "k", "v"))
    attended = functional.scaled_dot_product_attention(
        q, k, v, is_causal=True, scale=spec.softmax_scale, enable_gqa=spec.group_size > 1
    )
    return attended.transpose(1, 2).reshape(1, q.shape[2], spec.num_heads * spec.head_dim)


def _watch_inputs(*pieces: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Linear layer -> its input [1,T,n], of the first that reads it; filled when the pieces run."""
    seen: dict[str, torch.Tensor] = {}
    modules = {name: module for piece in pieces for name, module in piece.named_modules()}
    for reader in READERS:

        def note(_module: torch.nn.Module, given: tuple[torch.Tensor], reader: str = reader) -> None:
            seen[reader] = given[0]

        modules[reader].register_forward_pre_hook(note)
    return seen


def load_parameters(module: torch.nn.Module, prefix: str, load_weight: Callable[[str], np.ndarray]) -> torch.nn.Module:
    """The module itself, with the weights of prefix + its parameters' names."""
    for name, parameter in module.named_parameters():
        parameter.copy_(torch.from_numpy(load_weight(prefix + name)))
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
