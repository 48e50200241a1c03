"""shadow_append and shadow_attend from Python against the NumPy oracles; arrays that do not fit."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shadowattn.models.oracle import steps
from shadowattn.models.oracle.grid import chunk_scales, quantize_static
from shadowattn.models.oracle.shadow import Chunk, ShadowRule, shadow_attention
from shadowattn.models.oracle.steps import SelectRule, sparse_attention
from shadowattn.runtime import Session
from shadowattn.runtime.pipeline.stages import EstimateInputs, HeadScores, Rows, Scales, Stages

_CHUNK, _SEQ_LEN = 48, 256
_STEPS = ((0, _CHUNK), (_CHUNK, _CHUNK), (2 * _CHUNK, _CHUNK), (3 * _CHUNK, 11))  # position, rows that are not padding
_FORCED = {"min_k": 4, "sinks": 1, "latest": 2}
RULES = {
    "0.3": ShadowRule(0.3, **_FORCED),
    "auto": ShadowRule(**_FORCED),
    "uncompensated": ShadowRule(threshold=0.05, compensate=False, **_FORCED),
    "shadow_paper": SelectRule(0.3, 4, 1, 2),
}


class Calls:
    """A session whose cache the calls use, and random rows for it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.model = session.manifest.model
        self.stages = Stages(session._engine.shadow, self.model)
        self.plan = session._engine.plan
        seed = int(np.random.default_rng().integers(2**31))
        print("seed", seed)
        self.random = np.random.default_rng(seed)

    def rows(self, layer: int, position: int, n_valid: int, magnitude: float = 1.0) -> Rows:
        heads = (self.model.num_heads, self.model.num_kv_heads, self.model.num_kv_heads)
        q, k, v = (self.random.normal(size=(1, _CHUNK, n, self.model.head_dim)).astype(np.float32) for n in heads)
        q *= np.float32(magnitude)
        for rows in (q, k, v):
            rows[:, n_valid:] = np.nan  # padding
        return Rows(self.session._cached.handle, layer, position, n_valid, q, k, v)

    def chunks(self, magnitude: float = 1.0) -> Iterator[tuple[Rows, np.ndarray, np.ndarray]]:
        """Layer by layer the rows, and all keys and values so far."""
        seen: dict[int, list[Rows]] = {layer: [] for layer in range(self.model.num_layers)}
        for position, n_valid in _STEPS:
            for layer, before in seen.items():
                before.append(self.rows(layer, position, n_valid, magnitude))
                keys, values = (
                    np.concatenate([getattr(rows, name)[0, : rows.n_valid] for rows in before]) for name in "kv"
                )
                yield before[-1], keys, values


@pytest.fixture
def calls(tiny: Path, request: pytest.FixtureRequest) -> Iterator[Calls]:
    rule = RULES.get(getattr(request, "param", "0.3"), RULES["0.3"])
    mode = "shadow_paper" if isinstance(rule, SelectRule) else "shadow"
    own = {"threshold": rule.threshold, "compensate": rule.compensate} if isinstance(rule, ShadowRule) else {}
    keep_ratio = "auto" if rule.keep_ratio is None else rule.keep_ratio
    with Session.open(tiny, cache_type="f32", mode=mode, keep_ratio=keep_ratio, **_FORCED, **own) as session:
        yield Calls(session)


@pytest.mark.parametrize("magnitude", [1.0, 10.0])  # of the queries: 10 makes a step of the scores 0.4 logits
@pytest.mark.parametrize(("calls", "rule"), [(name, name) for name in RULES], indirect=["calls"])
def test_rank_invariant_integers_and_attention_are_the_oracles(calls: Calls, rule: str, magnitude: float) -> None:
    model, plan, chosen = calls.model, calls.plan, RULES[rule]
    inputs, counted = EstimateInputs(model, _CHUNK, _SEQ_LEN), np.zeros(2, np.int64)
    for rows, keys, values in calls.chunks(magnitude):
        layer, end = rows.layer, rows.position + rows.n_valid
        calls.stages.append(rows, inputs, Scales.RANK)
        q = rows.q[0, : rows.n_valid]
        k_i8, _ = steps.quantize_keys(keys, plan.centre[layer], plan.scale[layer])
        q_i8 = steps.quantize_queries_coarse(q, plan.k_variance[layer], plan.estimate_multiplier)
        assert np.array_equal(inputs.k_i8[:, :end], k_i8.transpose(1, 0, 2))
        assert np.array_equal(inputs.q_i8[:, : len(q)].reshape(q_i8.shape), q_i8)
        scores = steps.estimate_coarse(q_i8, k_i8.transpose(1, 0, 2), plan.estimate_multiplier)
        given = np.zeros((model.num_heads, _CHUNK, _SEQ_LEN), np.int8)
        given[:, : len(q), :end] = scores.reshape(model.num_heads, len(q), end)
        out = np.full((1, _CHUNK, model.num_heads * model.head_dim), np.nan, np.float32)
        for head in range(model.num_heads):
            calls.stages.attend(rows, HeadScores(head, 1, given[head], _SEQ_LEN), out)
        own = given[:, : len(q), :end].transpose(1, 0, 2).astype(int)
        if isinstance(chosen, ShadowRule):
            result = shadow_attention(Chunk(q, keys, values, plan, model.softmax_scale, layer), chosen, own)
            wanted = result.out
            counted += np.array([result.selected.sum(), result.rows_not_compensated])
        else:
            budgets = plan.paper_budgets[layer]
            wanted = sparse_attention(q, keys, values, own, chosen, model.softmax_scale, budgets)
        np.testing.assert_allclose(out[0, : len(q)], wanted, rtol=0, atol=1e-5)
        assert not out[0, len(q) :].any()
    if isinstance(chosen, ShadowRule):
        stats = calls.session._engine.shadow.cache_stats(calls.session._cached.handle)
        assert (stats.value_rows_read, stats.rows_not_compensated) == tuple(counted)
        assert (counted[1] > 0) == (chosen.compensate and magnitude > 1)


@pytest.mark.parametrize(("scales", "by"), [(Scales.NEAREST, "mse"), (Scales.LOG, "log")])
def test_the_grid_is_the_oracles(calls: Calls, scales: Scales, by: str) -> None:
    """Every head's bucket is the one nearest to its measured scales, and the integers are those of its scales."""
    model, grid = calls.model, calls.plan.grid
    assert grid is not None
    inputs = EstimateInputs(model, _CHUNK, _SEQ_LEN)
    for rows, keys, _ in calls.chunks():
        np.multiply(rows.q, calls.random.uniform(0.2, 5, (1, 1, model.num_heads, 1)), out=rows.q, casting="same_kind")
        calls.stages.append(rows, inputs, scales)
        q, end = rows.q[0, : rows.n_valid], len(keys)
        q_scale, k_scale = chunk_scales(q, keys)
        assert inputs.buckets.tolist() == list(grid.nearest(q_scale, np.repeat(k_scale, model.group_size), by=by))
        for head, bucket in enumerate(inputs.buckets):
            i, j = grid.pair(int(bucket))
            unit = head // model.group_size
            assert np.array_equal(inputs.q_i8[head, : len(q)], quantize_static(q[:, head], grid.q_scales[i]))
            assert np.array_equal(inputs.k_i8[unit, :end], quantize_static(keys[:, unit], grid.k_scales[j]))
            assert not inputs.q_i8[head, len(q) :].any()
            assert not inputs.k_i8[unit, end:].any()


def test_arrays_that_do_not_fit_never_reach_the_delegate(calls: Calls) -> None:
    rows, stages = calls.rows(0, 0, _CHUNK), calls.stages
    heads, size = calls.model.num_heads, calls.model.num_heads * calls.model.head_dim
    for name, array in (("q", rows.q.astype(np.float64)), ("k", rows.k[:, ::2])):
        with pytest.raises(ValueError, match=f"{name}: wanted .* contiguous elements of float32"):
            stages.append(dataclasses.replace(rows, **{name: array}), None, Scales.RANK)
    stages.append(rows, None, Scales.RANK)
    out = np.zeros((1, _CHUNK, size), np.float32)
    with pytest.raises(ValueError, match="out: wanted"):
        stages.attend(rows, HeadScores(0, heads), out[:, :1])
    with pytest.raises(ValueError, match="scores: wanted"):
        stages.attend(rows, HeadScores(0, 1, np.zeros((_CHUNK, 5), np.int8), _SEQ_LEN), out)
    with pytest.raises(ValueError, match="neither within one of the"):
        stages.attend(rows, HeadScores(0, heads + 1), out)
