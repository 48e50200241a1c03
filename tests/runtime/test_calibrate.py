"""Calibration: what follows from observations (made up, with a known answer), and a run on the tiny bundle."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_runner import run, write_speaking_bundle

from shadowattn.models import auto_threshold
from shadowattn.models.allocation import LARGEST_FACTOR, LEAST_FACTOR, allocate, fit_factors
from shadowattn.models.bundle import read_manifest, verify
from shadowattn.models.observations import BINS, LADDER, OCTAVES, Observations
from shadowattn.models.plan import Plan
from shadowattn.models.threshold_table import KEEP_RATIOS, Forced, fit_table, keep_of_text
from shadowattn.runtime.calibrate.ablation import cap, paper_budgets
from shadowattn.runtime.calibrate.bundle_plan import read_plan, replace_plan
from shadowattn.runtime.calibrate.options import EFFORTS, CalibrateOptions
from shadowattn.runtime.calibrate.steps import Steps
from shadowattn.runtime.session.session import Session

FORCED = Forced(min_k=64, sinks=1, latest=4)


def observations(error_scale: np.ndarray, octaves: int = 5) -> Observations:
    """Heads whose rows select 0.1 / threshold positions and are wrong by error_scale * threshold, at every length."""
    shape = error_scale.shape
    lengths = 64.0 * 2 ** np.arange(OCTAVES)
    rows = np.where(np.arange(OCTAVES) < octaves, lengths, 0.0)
    reached = 0.1 * 2 ** (0.5 * np.arange(1, BINS + 1))
    bins = np.diff(reached, prepend=0.0)
    return Observations(
        histogram=np.broadcast_to(rows[:, None] * bins, (*shape, OCTAVES, BINS)),
        rows=np.broadcast_to(rows, (*shape, OCTAVES)),
        errors=error_scale[..., None, None] * (rows[:, None] * LADDER),
        norms=np.broadcast_to(rows, (*shape, OCTAVES)),
        error_rows=np.broadcast_to(rows, (*shape, OCTAVES)),
        ranges=np.ones((shape[0], 5)),
    )


def test_kept_and_errors_are_read_at_any_threshold() -> None:
    seen = observations(np.array([[1.0, 2.0]]))
    assert seen.octaves == 5
    np.testing.assert_allclose(seen.kept(np.full((1, 2), 0.01))[..., :5], 10.0, rtol=1e-3)
    np.testing.assert_allclose(seen.damage(np.array([[0.01, 0.01]])), 0.015, rtol=1e-3)
    both = seen.plus(seen)
    np.testing.assert_allclose(both.kept(np.full((1, 2), 0.01)), seen.kept(np.full((1, 2), 0.01)))
    np.testing.assert_allclose(both.relative_errors(), seen.relative_errors())


def test_allocation_is_the_optimum_of_a_law_that_can_be_solved() -> None:
    """Minimise sum (a t)^2 for sum 0.1 / t = const: t is in proportion to a^(-2/3)."""
    scale = np.array([[1.0, 8.0, 27.0]])
    thresholds = allocate(observations(scale), 10.0)
    np.testing.assert_allclose((0.1 / thresholds).mean(), 10.0, rtol=0.1)
    np.testing.assert_allclose(thresholds / thresholds[0, 0], scale ** (-2 / 3), rtol=0.15)
    factors = fit_factors(observations(np.array([[1e-9, 1.0, 1e9]])))
    assert factors.dtype == np.float32
    assert factors.min() >= LEAST_FACTOR
    assert factors.max() <= LARGEST_FACTOR


def test_table_keeps_what_is_asked_for() -> None:
    """Over a text of 2,048 positions, and beyond for every row."""
    seen = observations(np.ones((1, 2)), octaves=5)
    factors = np.ones((1, 2), np.float32)
    table = fit_table(seen, factors, FORCED, max_length=10000)
    assert table.lengths.tolist() == [64, 2048, 2560, 5120]
    for ratio in (0.01, 0.02, 0.05, 0.1):
        threshold = table.at(ratio, 1000)
        assert threshold == table.at(ratio, 64) == table.at(ratio, 2048)
        assert keep_of_text(seen, factors, FORCED, threshold, 2048) == pytest.approx(ratio, rel=0.02)
        assert 0.1 / table.at(ratio, 5120) + 5 == pytest.approx(ratio * 5120, rel=0.05)
    assert (np.diff(table.values, axis=0) <= 0).all()
    assert len(table.values) == len(KEEP_RATIOS)


def test_auto_threshold_extrapolates_from_what_can_be_measured() -> None:
    chosen = auto_threshold.choose(lambda t: 7 * t, {2**-6: 0.16 * 2**-6 * 64, 2**-7: 0.08 * 2**-6 * 64})
    assert 0.005 / 10.24 / 2**0.25 < chosen <= 0.005 / 10.24
    assert auto_threshold.choose(lambda t: t, {2**-6: -0.001}) == auto_threshold.CANDIDATES[0]
    assert auto_threshold.choose(lambda t: t, {2**-6: 1e6}) == auto_threshold.CANDIDATES[-1]


def test_paper_budgets() -> None:
    """Importance of head times layer, clamped; no head gets more than all of its positions at keep_ratio 0.2."""
    heads, layers = np.array([[1.1, 1.2], [1.0, 0.9]]), np.array([1.5, 1.5])
    np.testing.assert_allclose(paper_budgets(1.0, heads, layers, 10.0), [[4 / 3, 8 / 3], [0, 0]], rtol=1e-6)
    np.testing.assert_allclose(paper_budgets(1.0, heads, layers, 1e-3), [[2, 2], [0, 0]], rtol=1e-6)
    np.testing.assert_array_equal(paper_budgets(1.0, np.ones((2, 2)), layers, 1.0), np.ones((2, 2)))
    capped = cap(np.array([[9.0, 0.5, 0.25, 0.25] + [0.0] * 6]), 5.0)
    np.testing.assert_allclose(capped[0, :4], [5.0, 2.5, 1.25, 1.25])


def test_steps_go_on_where_they_were(tmp_path: Path) -> None:
    calls = []

    def compute() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"a": np.arange(3)}

    bundle = tmp_path / "x.bundle"
    for _ in range(2):
        np.testing.assert_array_equal(Steps(bundle, {"k": 1}).run("s", compute)["a"], np.arange(3))
    assert len(calls) == 1
    Steps(bundle, {"k": 2}).run("s", compute)
    assert len(calls) == 2
    next(tmp_path.glob(".x.bundle.calibration-*")).joinpath("s.npz").write_bytes(b"cut off")
    Steps(bundle, {"k": 1}).run("s", compute)
    Steps(bundle, {"k": 2}).run("s", compute)
    assert len(calls) == 3
    for key in (1, 2):
        Steps(bundle, {"k": key}).forget()
    assert not list(tmp_path.glob(".x*"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "wanted a bundle"),
        (["b", "--effort=huge"], "effort"),
        (["b", "--tokens=0"], "--tokens: wanted at least 1, got 0"),
        (["b", "--budget_clamp=0"], "--budget_clamp: wanted a number above 0, got 0.0"),
        (["b", "--executor=pipelined"], "--executor: only the fused form can be observed"),
        (["b", "--output=/no/such/folder/plan.bin"], "--output: wanted a file in a folder that exists"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    outcome = run(capsys, "calibrate", *args)
    assert outcome.code == 2
    assert message in outcome.error


def test_every_effort_looks_at_something() -> None:
    for effort in EFFORTS:
        amount = CalibrateOptions(effort=effort).amount
        assert min(amount.windows, amount.held_out, amount.ablation_tokens) > 0


def test_calibrate_a_bundle(capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "tiny.bundle"
    shutil.copytree(tiny, bundle)
    before = (bundle / "plan.bin").read_bytes()
    assert run(capsys, "calibrate", str(bundle), "--effort=quick", "--dry_run").code == 0
    assert (bundle / "plan.bin").read_bytes() == before
    kept = sorted(path.name for path in next(tmp_path.glob(".tiny.bundle.calibration-*")).iterdir())
    assert "fit_0.npz" in kept
    output = tmp_path / "other.bin"
    assert run(capsys, "calibrate", str(bundle), "--effort=quick", f"--output={output}").code == 0
    assert (bundle / "plan.bin").read_bytes() == before
    outcome = run(capsys, "calibrate", str(bundle), "--effort=quick", "--paper_budgets")
    assert outcome.code == 0, outcome.error
    assert "threshold of keep_ratio auto" in outcome.out
    plan, old = read_plan(bundle), Plan.from_bytes(before)
    assert (plan.static_ranges > 0).all()
    assert plan.paper_budgets.mean() == pytest.approx(1, abs=0.01)
    np.testing.assert_array_equal(plan.centre, old.centre)
    for name in ("q_scales", "k_scales", "score_scales"):  # the graphs are baked with them
        np.testing.assert_array_equal(getattr(plan.grid, name), getattr(old.grid, name))
    np.testing.assert_array_equal(plan.threshold_factors, Plan.from_bytes(output.read_bytes()).threshold_factors)
    manifest = read_manifest(bundle)
    assert verify(bundle, manifest) == []
    assert manifest.calibration["budgets"]["effort"] == "quick"
    assert not list(tmp_path.glob(".tiny*"))
    with Session.open(bundle, keep_ratio=0.5) as session:  # the delegate takes it
        session.prefill(range(90))


_KILLED = """
import os, sys
from pathlib import Path
from shadowattn.models.plan import Plan
from shadowattn.runtime.calibrate.bundle_plan import replace_plan
replace, left = os.replace, int(sys.argv[3])
def dying(*names):
    global left
    if left == 0:
        os._exit(9)
    left -= 1
    replace(*names)
os.replace = dying
replace_plan(Path(sys.argv[1]), Plan.from_bytes(Path(sys.argv[2]).read_bytes()), {"effort": "quick"})
"""


@pytest.mark.parametrize("renames", range(5))
def test_killed_while_the_plan_is_replaced(tiny: Path, tmp_path: Path, renames: int) -> None:
    """After any number of renames the manifest's hashes are those of its files: the old plan with the old note, or the
    new one with the new."""
    bundle, new = tmp_path / "tiny.bundle", tmp_path / "new.bin"
    shutil.copytree(tiny, bundle)
    old = read_plan(bundle)
    new.write_bytes(dataclasses.replace(old, threshold_factors=old.threshold_factors * 2).to_bytes())
    program = [sys.executable, "-c", _KILLED, str(bundle), str(new), str(renames)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == (0 if renames == 4 else 9), done.stderr
    manifest = read_manifest(bundle)
    assert verify(bundle, manifest) == []
    is_new = read_plan(bundle).to_bytes() == new.read_bytes()
    assert is_new == ("budgets" in manifest.calibration) == (renames >= 2)
    replace_plan(bundle, old, {"effort": "default"})
    assert read_plan(bundle).to_bytes() == old.to_bytes()
    manifest = read_manifest(bundle)
    assert (manifest.plan_file, verify(bundle, manifest)) == ("plan.bin", [])
    left = {path.name for path in bundle.iterdir()} - {*manifest.files, "manifest.json"}
    assert left <= {".plan.next.bin.new", ".plan.bin.new", ".manifest.json.new"}  # of the killed process


def test_what_does_not_fit(capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path) -> None:
    speaking = write_speaking_bundle(tmp_path / "speaking.bundle")
    (tmp_path / "short.txt").write_text("short")
    for args, message in (
        ([str(speaking), f"--text={tmp_path}/short.txt"], "wanted at least 512 tokens (two windows), got"),
        ([str(tiny), f"--text={tmp_path}/short.txt"], "the bundle has no tokenizer, so --text cannot be used"),
        ([str(speaking), f"--text={tmp_path}/none.txt"], "none.txt: No such file or directory"),
    ):
        outcome = run(capsys, "calibrate", *args)
        assert outcome.code == 1
        assert message in outcome.error


def test_head_stats(tiny: Path, text: list[int]) -> None:
    with Session.open(tiny, mode="shadow", threshold=0.05, min_k=8) as session:
        assert (session.head_stats().kept == 1).all()  # nothing was observed yet
        session.observe_heads()
        logits = session.prefill(text)
        stats = session.head_stats()
        assert stats.kept.shape == (2, 4)
        assert 0 < stats.kept.min() < stats.kept.max() < 1
        assert (stats.mass > stats.kept).all()
        assert (stats.recall > 0.3).all()
        session.reset_stats()
        assert (session.head_stats().mass == 1).all()
        session.observe_heads(False)
        session.reset()
        np.testing.assert_array_equal(session.prefill(text), logits)
        with pytest.raises(ValueError, match="observe: wanted some of histogram, errors, heads, ranges, got all"):
            session.observer.observe("all")
        with pytest.raises(ValueError, match="observed: wanted one of histogram"):
            session.observer.table("tables")
        shadow, cache = session._engine.shadow, session._cached.handle
        with pytest.raises(ValueError, match="observe: wanted a sum of 1, 2, 4 and 8, or 0 for nothing, got 16"):
            shadow.observe(cache, 16)
        with pytest.raises(ValueError, match="observed heads has 32 numbers, wanted 3"):
            shadow.observed(cache, "heads", (3,))
        with pytest.raises(ValueError, match="there is no table 'x'; wanted one of histogram, rows"):
            shadow.observed(cache, "x", (3,))


def test_factors(tiny: Path, text: list[int]) -> None:
    with Session.open(tiny, mode="shadow", threshold=0.05, min_k=8) as session:
        session.prefill(text)
        fewer = session.stats().mean_keep_ratio
        session.set_factors(np.zeros((2, 4)))
        session.reset()
        session.reset_stats()
        session.prefill(text)
        assert session.stats().mean_keep_ratio == 1 > fewer
        with pytest.raises(ValueError, match="threshold factors: wanted 8"):
            session.set_factors(np.zeros(3))
