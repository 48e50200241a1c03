"""The numbers of an evaluation: perplexity, KL, greedy agreement, heads, windows; and their tables and pictures."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shadowattn.models.bundle import read_manifest
from shadowattn.runtime.evaluate import evaluation, model_reference, plots, report
from shadowattn.runtime.evaluate.distributions import Reference
from shadowattn.runtime.evaluate.evaluation import evaluate
from shadowattn.runtime.evaluate.greedy import Continuation, agreement, continue_prompt, cut_prompts, identical_prefix
from shadowattn.runtime.evaluate.heads import summarize
from shadowattn.runtime.evaluate.options import DENSE, EvalOptions, Variant
from shadowattn.runtime.evaluate.perplexity import worst_texts
from shadowattn.runtime.evaluate.texts import EvalText, load_texts, plan_windows, window_length
from shadowattn.runtime.measure.comparison import difference
from shadowattn.runtime.session.session import Session

SMALL = EvalOptions(
    modes=("shadow",), keep_ratios=("auto", 0.1), window=100, max_tokens=210, session={"num_threads": 1}
)


# --- distributions ---


@pytest.mark.parametrize("distance", [1.0, 0.1, 0.01])
def test_kl_is_that_of_the_float64_formula(distance: float) -> None:
    random = np.random.default_rng(3)
    dense = (4 * random.standard_normal((6, 5000)) + 10).astype(np.float32)
    other = dense + (distance * random.standard_normal(dense.shape)).astype(np.float32)
    reference = Reference(dense)
    wanted = difference(dense, other)
    found = reference.kl(other)
    assert found.mean() == pytest.approx(wanted.kl_mean, rel=1e-4, abs=1e-6)
    assert found.max() == pytest.approx(wanted.kl_max, rel=1e-4, abs=1e-6)
    assert reference.same_top(other).mean() == wanted.same_top_token


def test_kl_of_a_distribution_with_itself_is_zero() -> None:
    logits = np.random.default_rng(4).standard_normal((5, 300)).astype(np.float32)
    assert not Reference(logits).kl(logits.copy()).any()
    assert Reference(logits).same_top(logits + 1).all()


def test_kl_changes_neither_input() -> None:
    logits = np.random.default_rng(5).standard_normal((2, 3, 300)).astype(np.float32)
    before = logits.copy()
    Reference(logits[0]).kl(logits[1])
    np.testing.assert_array_equal(logits, before)


# --- windows ---


def test_windows_side_by_side() -> None:
    windows = list(plan_windows(250, 100, 100))
    assert [(w.start, w.end, w.first_row) for w in windows] == [(0, 100, 0), (100, 200, 0)]


def test_windows_that_overlap_score_each_token_once() -> None:
    predicted = []
    for window in plan_windows(230, 100, 30):
        predicted += range(window.start + window.first_row + 1, window.end)
    assert predicted == list(range(1, 220))  # 220: the end of the last whole window


def test_the_usual_window_is_what_fits(tiny: Path) -> None:
    manifest = read_manifest(tiny)
    assert window_length(EvalOptions(), manifest) == 256
    assert window_length(EvalOptions(session={"max_length": 64}), manifest) == 64
    with pytest.raises(ValueError, match="--window: wanted at most the 256 positions of a session, got 300"):
        window_length(EvalOptions(window=300), manifest)


# --- perplexity ---


def test_perplexity_is_that_of_the_session_score(tiny: Path) -> None:
    found = evaluate(tiny, SMALL)
    tokens = load_texts(tiny, read_manifest(tiny), SMALL)[0].tokens
    for row in found["rows"]:
        options = {"mode": row["mode"], "keep_ratio": row["keep_ratio"]}
        with Session.open(tiny, num_threads=1, **options) as session:
            scores = np.concatenate([session.score(tokens[start : start + 100]) for start in (0, 100)])
            assert row["mean_keep_ratio"] == session.stats().mean_keep_ratio
        assert row["perplexity"] == pytest.approx(math.exp(-scores.astype(np.float64).mean()), rel=1e-6)
        assert row["tokens"] == len(scores) == 198


def test_dense_against_itself_does_not_differ(tiny: Path) -> None:
    dense, auto, low = evaluate(tiny, SMALL)["rows"]
    assert (dense["mode"], dense["keep_ratio"], dense["mean_keep_ratio"]) == ("dense", None, 1.0)
    assert (dense["change_percent"], dense["loss_change_stderr"], dense["same_top"]) == (0, 0, 1)
    assert dense["kl_mean"] == dense["kl_p99"] == 0
    assert (auto["keep_ratio"], low["keep_ratio"]) == ("auto", 0.1)
    assert low["mean_keep_ratio"] <= auto["mean_keep_ratio"] < 1
    assert low["change_percent"] != 0
    assert 0 < low["kl_mean"] < low["kl_p99"]
    assert low["loss_change_stderr"] > 0


def test_kl_of_a_text_is_that_of_two_sessions(tiny: Path) -> None:
    low = evaluate(tiny, SMALL)["rows"][2]
    tokens = load_texts(tiny, read_manifest(tiny), SMALL)[0].tokens
    logits = []
    for options in ({"mode": "dense"}, {"keep_ratio": 0.1}):
        with Session.open(tiny, num_threads=1, **options) as session:
            parts = [part.logits for start in (0, 100) for part in session.score_slices(tokens[start : start + 100])]
            logits.append(np.concatenate(parts))
    wanted = difference(*logits)
    assert low["kl_mean"] == pytest.approx(wanted.kl_mean, rel=1e-3)
    assert low["same_top"] == wanted.same_top_token


class DenseModel:
    """Stands for the float model: what the bundle itself gives, densely, moved by `offset` at token 3."""

    def __init__(self, bundle: Path, offset: float) -> None:
        self.spec = read_manifest(bundle).model
        self._bundle, self._offset = bundle, offset
        self._logits: list[np.ndarray] = []

    def read(self, windows: Sequence[Sequence[int]], progress: Callable[[int, int], None]) -> None:
        with Session.open(self._bundle, num_threads=1, mode="dense") as session:
            for window in windows:
                self._logits.append(np.concatenate([part.logits for part in session.score_slices(list(window))]))
                self._logits[-1][:, 3] += self._offset
        progress(1, 1)

    def logits(self, window: int, start: int, stop: int) -> np.ndarray:
        return self._logits[window][start:stop]


@pytest.mark.parametrize("offset", [0.0, 2.0])
def test_a_float_model_takes_the_place_of_dense(tiny: Path, monkeypatch: pytest.MonkeyPatch, offset: float) -> None:
    monkeypatch.setattr(evaluation, "open_model", lambda *_: DenseModel(tiny, offset))
    options = dataclasses.replace(SMALL, reference="model", skip_tokens=3)
    found = evaluate(tiny, options)
    model, dense, auto, low = found["rows"]
    assert [row["mode"] for row in found["rows"]] == ["float model", "dense", "shadow", "shadow"]
    assert [row["base"] for row in found["rows"]] == [True, False, False, False]
    assert model["mean_keep_ratio"] is None
    assert (dense["kl_mean"] < 1e-6) == (offset == 0)
    if offset == 0:
        assert dense["perplexity"] == pytest.approx(model["perplexity"], rel=1e-6)
        assert dense["same_top"] == 1
        without = evaluate(tiny, dataclasses.replace(options, reference=None))["rows"]
        assert low["kl_mean"] == pytest.approx(without[2]["kl_mean"], rel=1e-3)
    else:
        assert dense["change_percent"] != 0
    text = report.format_report(found)
    assert "Note: perplexity is compared with the float32 model model, not with dense." in text
    assert auto["change_percent"] != low["change_percent"]


def test_a_reference_that_is_another_model_is_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = SimpleNamespace(load=lambda: lambda path: DenseModel(tiny, 0))
    monkeypatch.setattr(model_reference.importlib.metadata, "entry_points", lambda group: [entry])
    manifest = read_manifest(tiny)
    assert model_reference.open_model(Path("m"), manifest).spec == manifest.model
    other = dataclasses.replace(manifest, model=dataclasses.replace(manifest.model, rms_norm_eps=1e-3))
    with pytest.raises(ValueError, match="--reference: m is not the model of this bundle"):
        model_reference.open_model(Path("m"), other)


def test_a_reference_needs_the_converter(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_torch() -> None:
        raise ImportError("torch")

    for entries in ([], [SimpleNamespace(load=no_torch)]):
        monkeypatch.setattr(model_reference.importlib.metadata, "entry_points", lambda group, entries=entries: entries)
        with pytest.raises(ValueError, match=r"--reference needs torch; run: pip install 'shadowattn\[converter\]'"):
            model_reference.open_model(Path("m"), read_manifest(tiny))


def test_overlapping_windows_and_skipped_tokens(tiny: Path) -> None:
    options = EvalOptions(
        modes=("dense",), window=60, stride=40, max_tokens=150, skip_tokens=7, session={"num_threads": 1}
    )
    (dense,) = evaluate(tiny, options)["rows"]
    tokens = load_texts(tiny, read_manifest(tiny), options)[0].tokens[7:]
    with Session.open(tiny, num_threads=1, mode="dense") as session:
        parts = [session.score(tokens[start : start + 60])[0 if start == 0 else 19 :] for start in (0, 40, 80)]
    assert dense["tokens"] == 139
    assert dense["perplexity"] == pytest.approx(math.exp(-np.concatenate(parts).astype(np.float64).mean()), rel=1e-6)


def test_the_worst_text_is_named() -> None:
    columns = {"mode": "shadow", "keep_ratio": 0.1, "mean_keep_ratio": 0.1, "kl_mean": 0.5, "base": False}
    rows = [
        columns | {"text": text, "change_percent": change} for text, change in (("a", 1.0), ("b", 3.0), ("c", -1.0))
    ]
    (line,) = worst_texts(rows)
    assert (line["worst_text"], line["worst_change_percent"], line["texts"]) == ("b", 3.0, 3)
    assert line["change_percent"] == pytest.approx(1.0)


# --- greedy ---


def test_agreement_of_continuations() -> None:
    references = [[1, 2, 3, 4], [5, 6, 7, 8]]
    answers = [Continuation((1, 2, 9, 4), (1, 2, 9, 4)), Continuation((5, 6, 7, 8), (5, 6, 7, 8))]
    found = agreement(references, answers)
    assert (found["identical"], found["identical_forced"]) == (7 / 8, 7 / 8)
    assert found["identical_prefixes"] == [2, 4]
    assert (found["identical_prefix"], found["continue_tokens"]) == (3, 4)


def test_identical_prefix() -> None:
    assert [identical_prefix([1, 2], other) for other in ([3, 2], [1, 3], [1, 2])] == [0, 1, 2]


def test_prompts_come_from_everywhere() -> None:
    texts = [EvalText(name, "", None, tuple(range(base, base + 100))) for name, base in (("a", 0), ("b", 1000))]
    prompts = cut_prompts(texts, 5, 20)
    assert [(prompt.text, prompt.start) for prompt in prompts] == [("a", 0), ("a", 40), ("a", 80), ("b", 0), ("b", 80)]
    assert all(len(prompt.token_ids) == 20 for prompt in prompts)
    assert prompts[4].token_ids[0] == 1080


def test_forced_continuation_follows_the_reference(tiny: Path, text: list[int]) -> None:
    with Session.open(tiny, num_threads=1, keep_ratio=0.05) as session:
        reference = [int(token) for token in np.random.default_rng(1).integers(0, 97, 6)]
        free = continue_prompt(session, text[:150], 6, None).free
        wanted = [int(session_argmax(session, [*text[:150], *reference[:count]])) for count in range(6)]
        found = continue_prompt(session, text[:150], 6, reference)
        assert found == Continuation(free, tuple(wanted))
        mixed = [*free[:3], *reference[3:]]  # the first flip is in the middle
        wanted = [int(session_argmax(session, [*text[:150], *mixed[:count]])) for count in range(6)]
        assert continue_prompt(session, text[:150], 6, mixed).forced == tuple(wanted)


def session_argmax(session: Session, token_ids: list[int]) -> Any:
    """The most likely next token; what follows the prompt of 150 is decoded, as continue_prompt() does."""
    session.reset()
    logits = session.prefill(token_ids[:150])
    for token in token_ids[150:]:
        logits = session.decode(token)
    return logits.argmax()


def test_greedy_rows(tiny: Path) -> None:
    options = EvalOptions(
        modes=("shadow",),
        keep_ratios=(0.05,),
        tasks=("greedy",),
        prompts=3,
        prompt_tokens=120,
        continue_tokens=8,
        max_tokens=400,
        session={"num_threads": 1},
    )
    found = evaluate(tiny, options)
    dense, shadow = found["rows"]
    assert (dense["identical"], dense["identical_prefix"], dense["identical_forced"]) == (1, 8, 1)
    assert 0 <= shadow["identical"] <= shadow["identical_forced"] <= 1
    assert [prompt["start"] for prompt in found["greedy_prompts"]] == [0, 140, 280]


# --- heads ---


class FakeHeads:
    """What session.head_stats() gives: layer 1, head 2 is the worst of all."""

    def __init__(self) -> None:
        self.kept, self.mass, self.recall = (np.full((3, 4), value) for value in (0.1, 0.9, 1.0))
        for values in (self.kept, self.mass, self.recall):
            values[1, 2] = 0.05


def test_heads_in_a_row() -> None:
    row = summarize(FakeHeads())
    assert row["recall_mean"] == pytest.approx((11 + 0.05) / 12)
    assert (row["recall_min"], row["recall_argmin"]) == (0.05, [1, 2])
    assert np.array(row["mass"]).shape == (3, 4)


def test_head_rows(tiny: Path) -> None:
    options = EvalOptions(
        modes=("shadow", "shadow_paper"), keep_ratios=(0.1,), tasks=("heads",), window=200, max_tokens=200
    )
    dense, shadow, paper = evaluate(tiny, options)["rows"]
    assert (dense["mode"], shadow["mode"], shadow["text"]) == ("dense", "shadow", "random token ids")
    assert (dense["kept_min"], dense["mass_min"], dense["recall_min"]) == (1.0, 1.0, 1.0)
    for row in (shadow, paper):
        assert 0.0 < row["kept_mean"] < 1.0
        assert row["kept_mean"] <= row["mass_mean"] <= 1.0 + 1e-6  # what is read has more mass than what is not
        assert 0.5 < row["recall_min"] <= 1.0


def test_uniform_budgets_of_the_papers_mode_are_named(tiny: Path) -> None:
    """A bundle whose heads were never ablated must not pass for the paper's settings."""
    options = EvalOptions(modes=("shadow_paper",), keep_ratios=(0.2,), window=50, max_tokens=50)
    found = evaluate(tiny, options)
    assert ["--paper_budgets" in note for note in found["notes"]] == [True]
    assert "Note: shadow_paper runs with the same budget for every head" in report.format_report(found)
    assert evaluate(tiny, dataclasses.replace(options, modes=("shadow",)))["notes"] == []


# --- for people ---


LABELS = ("shadow:uncompensated", "0.05", "0.06")


def rows_of_every_task() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for text in ("a.txt", "b.txt"):
        for variant, keep, change in ((DENSE, 1.0, 0.0), (Variant("shadow", 0.05, False), 0.06, 31.5)):
            columns = {"mode": variant.label, "keep_ratio": variant.keep_ratio, "mean_keep_ratio": keep}
            columns |= {"base": variant == DENSE}
            numbers = {"tokens": 99, "perplexity": 22.5, "change_percent": change, "loss_change_stderr": 0.1}
            numbers |= {"kl_mean": 0.01, "kl_p99": 0.2, "same_top": 0.97, "seconds": 1.5}
            rows.append({"task": "perplexity", "text": text, "window": 50} | columns | numbers)
            rows.append({"task": "heads", "text": text} | columns | summarize(FakeHeads()))
    return rows


def test_tables() -> None:
    rows = rows_of_every_task()
    perplexity = [row for row in rows if row["task"] == "perplexity"]
    found = report.tables(rows, worst_texts(perplexity))
    assert [table.title.split(":")[0] for table in found] == ["Perplexity"] * 2 + ["Over 2 texts"] + ["Heads"] * 3
    lines = str(found[0]).splitlines()
    assert lines[0] == "Perplexity: a.txt, 99 predicted tokens in windows of 50"
    assert lines[-1].split() == [*LABELS, "22.500", "+31.50", "0.10", "0.01", "0.2", "97.0", "2"]
    assert str(found[5]).splitlines()[-1].split() == ["b.txt", *LABELS, "0.921", "0.05", "1", "2"]


def test_pictures(tmp_path: Path) -> None:
    paths = plots.draw(rows_of_every_task(), tmp_path / "new")
    assert [path.name for path in paths] == [
        "loss_50.png",
        "heads_a.txt_shadow_uncompensated_0.05.png",
        "heads_b.txt_shadow_uncompensated_0.05.png",
    ]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 10_000
