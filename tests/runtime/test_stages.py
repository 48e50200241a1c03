"""shadow_append and shadow_attend from Python: what the bundle's kv_append and attend graphs compute, to the bit, the
grid's integers by the NumPy oracle, and arrays that do not fit."""

from pathlib import Path

import numpy as np
import pytest

from shadowattn.models.oracle.grid import chunk_scales, quantize_static
from shadowattn.models.plan import Plan
from shadowattn.runtime import Session
from shadowattn.runtime.executor.stages import EstimateInputs, HeadScores, Rows, Scales, Stages

_CHUNK, _SEQ_LEN, _KEPT = 16, 64, 11


class _Both:
    """One session whose cache the graphs use, and another for the calls; the same random rows for both."""

    def __init__(self, bundle: Path, **settings: object) -> None:
        self.graphs = Session.open(bundle, **settings)  # type: ignore[arg-type]
        self.calls = Session.open(bundle, **settings)  # type: ignore[arg-type]
        self.engine = self.graphs._engine
        self.model = self.graphs.manifest.model
        self.stages = Stages(self.engine.shadow, self.model)
        seed = int(np.random.default_rng().integers(2**31))
        print("seed", seed)
        self.random = np.random.default_rng(seed)

    def rows(self, layer: int, position: int, n_valid: int) -> Rows:
        heads, kv_heads, size = self.model.num_heads, self.model.num_kv_heads, self.model.head_dim
        q, k, v = (
            self.random.normal(size=(1, _CHUNK, count, size)).astype(np.float32)
            for count in (heads, kv_heads, kv_heads)
        )
        for rows in (q, k, v):
            rows[:, n_valid:] = np.nan  # padding
        return Rows(self.calls._cache, layer, position, n_valid, q, k, v)

    def close(self) -> None:
        self.graphs.close()
        self.calls.close()


def _run_graphs(both: _Both, rows: Rows, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """q_i8, k_i8 and o as the graphs kv_append and attend compute them."""
    append = both.engine.runner(f"kv_append_{_CHUNK}_{_SEQ_LEN}")
    attend = both.engine.runner(f"attend_{_CHUNK}_{_SEQ_LEN}")
    numbers = {
        "position": rows.position, "n_valid": rows.n_valid, "cache": both.graphs._cache, "layer": rows.layer
    }  # fmt: skip
    for runner, tensors in ((append, {"q": rows.q, "k": rows.k, "v": rows.v}), (attend, {"q": rows.q})):
        for name, tensor in tensors.items():
            runner.inputs[name][:] = tensor
        for name, number in numbers.items():
            runner.inputs[name][0] = number
    append.invoke()
    integers = append.outputs["q_i8"].copy(), append.outputs["k_i8"].copy()
    attend.inputs["scores_i8"][:] = scores.reshape(attend.inputs["scores_i8"].shape)
    attend.inputs["kv_len"][0] = append.outputs["kv_len"][0]
    attend.invoke()
    return *integers, attend.outputs["o"].copy()


@pytest.mark.parametrize("mode", ["shadow", "shadow_paper"])
def test_the_graphs_compute_the_same(tiny: Path, mode: str) -> None:
    both = _Both(tiny, mode=mode, keep_ratio=0.3, min_k=4)
    model = both.model
    inputs = EstimateInputs(model, _CHUNK, _SEQ_LEN)
    for position, n_valid in ((0, _CHUNK), (_CHUNK, _CHUNK), (2 * _CHUNK, _KEPT)):
        for layer in range(model.num_layers):
            rows = both.rows(layer, position, n_valid)
            scores = both.random.integers(-128, 127, (model.num_heads, _CHUNK, _SEQ_LEN)).astype(np.int8)
            q_i8, k_i8, wanted = _run_graphs(both, rows, scores)
            both.stages.append(rows, inputs, Scales.RANK)
            assert np.array_equal(inputs.q_i8.reshape(q_i8.shape), q_i8)
            assert np.array_equal(inputs.k_i8, k_i8)
            out = np.full((1, _CHUNK, model.num_heads * model.head_dim), np.nan, np.float32)
            for head in range(model.num_heads):
                both.stages.attend(rows, HeadScores(head, 1, scores[head], _SEQ_LEN), out)
            assert np.array_equal(out, wanted)
    both.close()


@pytest.mark.parametrize(("scales", "by"), [(Scales.NEAREST, "mse"), (Scales.LOG, "log")])
def test_the_grid_is_the_oracles(tiny: Path, scales: Scales, by: str) -> None:
    """Every head's bucket is the one nearest to its measured scales, and the integers are those of its scales."""
    both = _Both(tiny, cache_type="f32")
    grid = Plan.from_bytes((tiny / "plan.bin").read_bytes()).grid
    assert grid is not None
    model = both.model
    inputs = EstimateInputs(model, _CHUNK, _SEQ_LEN)
    keys = []
    for position, n_valid in ((0, _CHUNK), (_CHUNK, _CHUNK), (2 * _CHUNK, _KEPT)):
        spread = both.random.uniform(0.2, 5, (1, 1, model.num_heads, 1)).astype(np.float32)
        rows = both.rows(0, position, n_valid)
        rows = Rows(rows.cache, 0, position, n_valid, rows.q * spread, rows.k, rows.v)
        both.stages.append(rows, inputs, scales)
        for layer in range(1, model.num_layers):
            both.stages.append(Rows(rows.cache, layer, position, n_valid, rows.q, rows.k, rows.v), None, scales)
        keys.append(rows.k[0, :n_valid])
        k = np.concatenate(keys)
        q_scale, k_scale = chunk_scales(rows.q[0, :n_valid], k)
        per_head = np.repeat(k_scale, model.group_size)
        nearest = grid.nearest(q_scale, per_head, by=by)
        assert inputs.buckets.tolist() == np.asarray(nearest).tolist()
        for head, bucket in enumerate(inputs.buckets):
            i, j = grid.pair(int(bucket))
            wanted = quantize_static(rows.q[0, :n_valid, head], grid.q_scales[i])
            assert np.array_equal(inputs.q_i8[head, :n_valid], wanted)
            assert not inputs.q_i8[head, n_valid:].any()
            unit = head // model.group_size
            assert np.array_equal(inputs.k_i8[unit, : len(k)], quantize_static(k[:, unit], grid.k_scales[j]))
            assert not inputs.k_i8[unit, len(k) :].any()
    both.close()


def test_arrays_that_do_not_fit_never_reach_the_delegate(tiny: Path) -> None:
    both = _Both(tiny)
    rows = both.rows(0, 0, _CHUNK)
    size = both.model.num_heads * both.model.head_dim
    with pytest.raises(ValueError, match=r"q: wanted .* contiguous elements of float32"):
        both.stages.append(Rows(rows.cache, 0, 0, _CHUNK, rows.q.astype(np.float64), rows.k, rows.v), None, Scales.RANK)
    with pytest.raises(ValueError, match="k: wanted"):
        both.stages.append(Rows(rows.cache, 0, 0, _CHUNK, rows.q, rows.k[:, ::2], rows.v), None, Scales.RANK)
    both.stages.append(rows, None, Scales.RANK)
    with pytest.raises(ValueError, match="out: wanted"):
        both.stages.attend(rows, HeadScores(0, both.model.num_heads), np.zeros((1, 1, size), np.float32))
    out = np.zeros((1, _CHUNK, size), np.float32)
    with pytest.raises(ValueError, match="scores: wanted"):
        both.stages.attend(rows, HeadScores(0, 1, np.zeros((_CHUNK, 5), np.int8), _SEQ_LEN), out)
    with pytest.raises(ValueError, match="neither within one of the"):
        both.stages.attend(rows, HeadScores(0, both.model.num_heads + 1), out)
    both.close()
