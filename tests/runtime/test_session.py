"""A session against the NumPy oracle: every prompt length, both executors, dense and sparse, and what it reports."""

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import tiny_decoder, write_tiny_bundle
from tiny_decoder import TinyDecoder

from shadowattn.models.bundle import read_manifest
from shadowattn.models.oracle.shadow import ShadowRule
from shadowattn.models.oracle.steps import SelectRule
from shadowattn.models.plan import FILE_NAME, Plan
from shadowattn.runtime import Session
from shadowattn.runtime.pipeline.options import PipelineOptions

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # something not under XNNPACK
EXECUTORS = ("fused", "pipelined")
FLOAT32 = float(np.finfo(np.float32).eps)


def _error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, in units of the wanted logits' magnitude."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def _divergence(found: np.ndarray, wanted: np.ndarray) -> float:
    """KL(wanted || found) of the softmaxes."""
    p, q = (np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum() for logits in (wanted, found))
    return float((p * np.log(p / q)).sum())


@pytest.mark.parametrize("executor", EXECUTORS)
def test_dense_equals_the_oracle(tiny: Path, oracle: TinyDecoder, text: list[int], executor: str) -> None:
    wanted = oracle.forward(text)[1]
    with Session.open(tiny, keep_ratio=1.0, executor=executor, cache_type="f32") as session:
        for length in (1, 3, 4, 5, 15, 16, 17, 53, 3 * 16 + 5, 180):
            session.reset()
            errors = [_error(session.prefill(text[:length]), wanted[length - 1])]
            errors += [_error(session.decode(text[i]), wanted[i]) for i in range(length, length + 20)]
            assert max(errors) < 50 * FLOAT32, f"prompt of {length}: {errors}"


@pytest.mark.parametrize(
    "sizes",
    [
        {"num_heads": 5, "num_kv_heads": 1, "head_dim": 40, "hidden": 36},
        {"num_heads": 3, "num_kv_heads": 3, "head_dim": 128, "hidden": 52, "layers": 1},
        {"num_heads": 6, "num_kv_heads": 2, "head_dim": 64, "chunks": (1, 7), "seq_lens": (48, 96), "max_length": 90},
    ],
    ids=("mqa_d40", "mha_d128", "gqa3_odd_chunks"),
)
def test_other_shapes(tmp_path: Path, sizes: dict[str, object]) -> None:
    manifest = write_tiny_bundle(tmp_path / "bundle", **sizes)
    tokens = np.random.default_rng(5).integers(0, 97, 80).tolist()
    wanted = tiny_decoder(manifest).forward(tokens)[1]
    for executor in EXECUTORS:
        with Session.open(tmp_path / "bundle", keep_ratio=1.0, executor=executor, cache_type="f32") as session:
            errors = [_error(session.prefill(tokens[:61]), wanted[60])]
            errors += [_error(session.decode(tokens[i]), wanted[i]) for i in range(61, 80)]
            assert max(errors) < 50 * FLOAT32, f"{executor}: {errors}"


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"keep_ratio": 0.2}, ShadowRule(0.2, min_k=8, sinks=2)),
        ({"keep_ratio": "auto"}, ShadowRule(min_k=8, sinks=2)),
        ({"threshold": 0.02, "compensate": False}, ShadowRule(threshold=0.02, compensate=False, min_k=8, sinks=2)),
    ],
    ids=["keep_ratio", "auto", "threshold"],
)
def test_sparse_fused_equals_the_oracle(
    tiny: Path, oracle: TinyDecoder, text: list[int], settings: dict[str, Any], rule: ShadowRule
) -> None:
    plan = Plan.from_bytes((tiny / FILE_NAME).read_bytes())
    wanted = oracle.forward(text, rule, plan)[1]
    with Session.open(tiny, min_k=8, sinks=2, cache_type="f32", **settings) as session:
        errors = [_error(session.prefill(text[:100]), wanted[99])]
        errors += [_error(session.decode(text[i]), wanted[i]) for i in range(100, 200)]
        # A float32 rounding may carry a weight over the threshold: then one row differs, by little.
        assert np.median(errors) < 50 * FLOAT32
        assert max(errors) < 0.1


@pytest.mark.parametrize("executor", EXECUTORS)
def test_sparse_is_close_to_dense(tiny: Path, oracle: TinyDecoder, text: list[int], executor: str) -> None:
    wanted = oracle.forward(text)[1]
    divergence = {}
    for keep_ratio in (0.5, 0.1):
        few = {"min_k": 1, "sinks": 1, "latest": 2}
        with Session.open(tiny, executor=executor, keep_ratio=keep_ratio, **few) as session:
            found = [session.prefill(text[:120])] + [session.decode(token) for token in text[120:]]
        divergence[keep_ratio] = np.mean([_divergence(f, w) for f, w in zip(found, wanted[119:], strict=True)])
    print(executor, divergence)
    assert divergence[0.5] < 0.02, divergence
    assert divergence[0.5] < divergence[0.1] < 0.5, divergence


@pytest.mark.parametrize("executor", EXECUTORS)
def test_k_that_covers_all_is_dense(tiny: Path, text: list[int], executor: str) -> None:
    """Below min_k every position is selected, whatever the mode; the pipelined form then skips its estimate."""
    with Session.open(tiny, executor=executor, mode="dense", cache_type="f32") as session:
        dense = session.prefill(text[:60])
    with Session.open(tiny, executor=executor, min_k=64, keep_ratio=0.1, cache_type="f32") as session:
        assert _error(session.prefill(text[:60]), dense) < 50 * FLOAT32
        if executor == "pipelined":
            assert "estimate" not in session._cached.executor.seconds
            session.prefill(text[60:100])
            assert session._cached.executor.seconds["estimate"] > 0


def test_half_precision_cache_is_close(tiny: Path, oracle: TinyDecoder, text: list[int]) -> None:
    wanted = oracle.forward(text)[1]
    with Session.open(tiny, keep_ratio=1.0) as session:
        assert _error(session.prefill(text), wanted[-1]) < 5e-3
        half = session.stats().cache_bytes
    with Session.open(tiny, keep_ratio=1.0, cache_type="f32") as session:
        session.prefill(text)
        assert half < session.stats().cache_bytes


def test_any_split_of_a_prompt_gives_the_same(tiny: Path, text: list[int]) -> None:
    rng = np.random.default_rng(21)
    with Session.open(tiny, keep_ratio=0.3, min_k=4, cache_type="f32") as session:
        whole = session.prefill(text)
        for trial in range(5):
            session.reset()
            cuts = [0, *sorted(rng.choice(np.arange(1, 200), 6, replace=False).tolist()), 200]
            for start, end in itertools.pairwise(cuts):
                logits = session.prefill(text[start:end])
            assert _error(logits, whole) < 0.05, f"seed 21, trial {trial}: cuts {cuts}"
            assert session.tokens == text


@pytest.mark.parametrize("executor", EXECUTORS)
def test_rewind_equals_never_having_gone_on(tiny: Path, text: list[int], executor: str) -> None:
    with Session.open(tiny, executor=executor, min_k=4, cache_type="f32") as session:
        session.prefill(text[:90])
        wanted = session.decode(text[90])
        session.prefill(text[100:170])
        session.rewind(90)
        assert session.tokens == text[:90]
        assert np.array_equal(session.decode(text[90]), wanted)
        session.reset()
        assert session.length == 0


def test_score_equals_the_oracle(tiny: Path, oracle: TinyDecoder, text: list[int]) -> None:
    wanted = oracle.logprobs(text)
    for executor in EXECUTORS:
        with Session.open(tiny, keep_ratio=1.0, executor=executor, cache_type="f32") as session:
            for length in (2, 9, 10, 17, 200):
                found = session.score(text[:length])
                assert found.dtype == np.float32
                assert np.abs(found - wanted[: length - 1]).max() < 1e-4 * np.abs(wanted).max()
                assert session.tokens == text[: length - 1]


def test_score_slices_hold_the_logits_that_prefill_gives(tiny: Path, text: list[int]) -> None:
    with Session.open(tiny, keep_ratio=1.0, cache_type="f32") as session:
        parts = list(session.score_slices(text[:51]))
        assert [part.start for part in parts] == list(range(0, 50, 8))
        assert all(len(part.logits) == len(part.logprobs) <= 8 for part in parts)
        session.reset()
        assert _error(np.concatenate([part.logits for part in parts])[-1], session.prefill(text[:50])) < 50 * FLOAT32


def test_score_fills_the_whole_context(tiny: Path) -> None:
    tokens = [i % 97 for i in range(257)]
    with Session.open(tiny) as session:
        assert len(session.score(tokens)) == 256
        with pytest.raises(ValueError, match="258 tokens do not fit: 0 of 257"):
            session.score([*tokens, 1])


def test_progress_is_told_after_every_chunk(tiny: Path, text: list[int]) -> None:
    told: list[tuple[int, int]] = []
    with Session.open(tiny) as session:
        session.prefill(text[:39], on_progress=lambda done, total: told.append((done, total)))
    assert told == [(16, 39), (32, 39), (39, 39)]


def test_statistics(tiny: Path, text: list[int]) -> None:
    rule = SelectRule(0.25, min_k=8)
    with Session.open(tiny, mode="shadow_paper", keep_ratio=0.25, min_k=8) as session:
        session.prefill(text[:50])
        stats = session.stats()
        model = read_manifest(tiny).model
        rows = model.num_layers * model.num_heads
        assert stats.rows == rows * 50
        assert stats.causal_rows == rows * sum(range(1, 51))
        assert stats.value_rows_read == rows * sum(rule.k(n) for n in range(1, 51))
        assert stats.mean_keep_ratio == stats.value_rows_read / stats.causal_rows
        assert stats.cache_bytes > 0
        assert stats.seconds["total"] > 0
        session.reset_stats()
        assert session.stats().rows == 0
        assert session.stats().mean_keep_ratio == 1.0


def test_pipelined_counts_its_copies(tiny: Path, text: list[int]) -> None:
    """Between linear graphs the residual, and into the one launch of a layer its INT8 queries and keys."""
    spec = read_manifest(tiny).model
    whole = PipelineOptions(heads=(spec.num_heads,))
    with Session.open(tiny, executor="pipelined", pipeline=whole, min_k=1) as session:
        session.prefill(text[:16])
        stats = session.stats()
        time, kv_len = 16, 16
        integers = (time * spec.num_heads + kv_len * spec.num_kv_heads) * spec.head_dim
        assert stats.copied_bytes == spec.num_layers * (4 * time * spec.hidden_size + integers)
        assert {"linear", "append", "estimate", "attend", "copy", "total"} <= set(stats.seconds)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_node_assignments(tiny: Path, text: list[int], executor: str) -> None:
    with Session.open(tiny, executor=executor, min_k=1) as session:
        assert session.node_assignments() == []
        session.prefill(text[:20])
        session.score(text[:3])
        rows = session.node_assignments()
    wanted = {"Shadow": "shadow", "FULLY_CONNECTED": "xnnpack", "BATCH_MATMUL": "xnnpack"}
    absent = {"fused": "BATCH_MATMUL", "pipelined": "Shadow"}[executor]  # between its graphs, our steps are calls
    for prefix, runner in wanted.items():
        found = [row for row in rows if row.op.startswith(prefix)]
        assert all(row.runner == runner for row in found)
        assert bool(found) == (prefix != absent)
    assert {row.runner for row in rows} <= {"shadow", "xnnpack", "litert builtin"}
    signature, index, op, _ = rows[0]
    assert (signature, index) in {(row.signature, row.index) for row in rows}
    assert isinstance(op, str)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_prepare_opens_what_a_prompt_needs(tiny: Path, text: list[int], executor: str) -> None:
    with Session.open(tiny, executor=executor, min_k=1) as session:
        session.prepare(100)
        prepared = {row.signature for row in session.node_assignments()}
        session.prefill(text[:100])
        session.decode(1)
        assert {row.signature for row in session.node_assignments()} == prepared
        assert session.length == 101


def test_configure_changes_what_comes_next(tiny: Path, text: list[int]) -> None:
    with Session.open(tiny, keep_ratio=0.1, min_k=1, cache_type="f32") as session:
        sparse = session.prefill(text[:100])
        session.configure(keep_ratio=1.0)
        session.reset()
        dense = session.prefill(text[:100])
        assert session.settings.keep_ratio == 1.0
        session.configure(mode="shadow", keep_ratio=0.1)
        session.reset()
        assert np.array_equal(session.prefill(text[:100]), sparse)
        assert not np.array_equal(dense, sparse)
        with pytest.raises(ValueError, match="keep_ratio must be auto or in"):
            session.configure(keep_ratio=2.0)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_isa_do_not_change_what_is_kept(tiny: Path, text: list[int], threads: int) -> None:
    with Session.open(tiny, min_k=4, cache_type="f32", num_threads=1) as session:
        wanted = session.prefill(text)
    for isa in ("auto", "scalar"):
        with Session.open(tiny, min_k=4, cache_type="f32", num_threads=threads, isa=isa) as session:
            assert session.num_threads == threads
            assert isa in ("auto", session.isa)
            assert _error(session.prefill(text), wanted) < 50 * FLOAT32


@pytest.mark.parametrize("kind", [np.float64, np.float32, Fraction, float])
def test_real_numbers_of_any_kind(tiny: Path, kind: Callable[[float], Any]) -> None:
    with Session.open(tiny, keep_ratio=kind(0.5), min_k=np.int64(4)) as session:  # type: ignore[arg-type]
        assert (type(session.settings.keep_ratio), session.settings.keep_ratio) == (float, 0.5)
        assert type(session.settings.min_k) is int
        session.configure(keep_ratio=kind(0.25))
        session.prefill([1, 2, 3])
