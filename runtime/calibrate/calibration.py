"""The whole of it: windows, observations, factors, table, the threshold of auto, the paper's budgets -> a plan."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from shadowattn.models import auto_threshold
from shadowattn.models.allocation import fit_factors
from shadowattn.models.bundle import Manifest, file_info, read_manifest
from shadowattn.models.observations import Observations
from shadowattn.models.plan import Plan
from shadowattn.models.progress import Progress
from shadowattn.models.threshold_table import Forced, fit_table, keep_of_text
from shadowattn.runtime.calibrate.ablation import paper_budgets
from shadowattn.runtime.calibrate.bundle_plan import read_plan
from shadowattn.runtime.calibrate.measure import Meter, from_arrays, to_arrays
from shadowattn.runtime.calibrate.options import CalibrateOptions
from shadowattn.runtime.calibrate.steps import Arrays, Steps
from shadowattn.runtime.calibrate.windows import CalibrationWindows, load_windows

_FORMAT = 1  # of the steps' results


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The new plan; note: what the manifest says of it; steps: to be forgotten once the plan is written."""

    plan: Plan
    note: dict[str, Any]
    steps: Steps


def calibrate(bundle: Path, options: CalibrateOptions, verbosity: int = 0) -> Outcome:
    """Measures, with progress on stderr; writes nothing but its own steps. Raises ValueError, OSError."""
    manifest = read_manifest(bundle)
    windows = load_windows(bundle, manifest, options)
    meter = Meter(bundle, options, verbosity)
    try:
        return _Calibration(bundle, manifest, options, windows, meter).run()
    finally:
        meter.close()


class _Calibration:
    """One run; its steps in their order."""

    def __init__(
        self,
        bundle: Path,
        manifest: Manifest,
        options: CalibrateOptions,
        windows: CalibrationWindows,
        meter: Meter,
    ) -> None:
        self._options = options
        self._windows = windows
        self._meter = meter
        self._plan = read_plan(bundle)
        settings = meter.settings
        self._forced = Forced(settings.min_k, settings.sinks, settings.latest)
        key = {
            "format": _FORMAT,
            "files": {name: info.sha256 for name, info in manifest.files.items() if name != manifest.plan_file},
            "plan": file_info(bundle / manifest.plan_file).sha256,
            "text": windows.sha256,
            "sizes": [len(windows.fit), len(windows.held_out), len(windows.longest), len(windows.fit[0])],
            "ablation": options.amount.ablation_tokens,
            "settings": dataclasses.asdict(settings),
        }
        self._steps = Steps(bundle, key)

    def run(self) -> Outcome:
        with _Work(self._steps, self._cost()) as work:
            seen = self._observe(work)
            factors = fit_factors(seen)
            auto, changes = self._fit_auto(work, seen, factors)
            budgets = self._ablate(work) if self._options.paper_budgets else self._plan.paper_budgets
        plan = dataclasses.replace(
            self._plan,
            auto_threshold=float(np.float32(auto)),
            thresholds=fit_table(seen, factors, self._forced, self._meter.settings.max_length),
            threshold_factors=factors,
            paper_budgets=budgets,
            static_ranges=seen.ranges.astype(np.float32),
        )
        return Outcome(plan, self._note(seen, plan, changes), self._steps)

    def _observe(self, work: "_Work") -> Observations:
        parts = [
            work.step(f"fit_{i}", len(tokens), functools.partial(self._observed, tokens, True))
            for i, tokens in enumerate(self._windows.fit)
        ]
        if self._windows.longest:
            tokens = self._windows.longest
            parts.append(work.step("longest", len(tokens), functools.partial(self._observed, tokens, False)))
        return functools.reduce(Observations.plus, map(from_arrays, parts))

    def _observed(self, tokens: tuple[int, ...], errors: bool) -> Arrays:
        return to_arrays(self._meter.observe(tokens, errors=errors))

    def _fit_auto(self, work: "_Work", seen: Observations, factors: np.ndarray) -> tuple[float, dict[float, float]]:
        """The threshold, and the measured changes of the loss at the probes."""
        dense = self._losses(work, "dense", self._meter.dense_loss)
        changes = {}
        for probe in auto_threshold.PROBES:
            measure = functools.partial(self._meter.loss, threshold=probe, factors=factors)
            changes[probe] = self._losses(work, f"shadow_{probe:.3g}", measure) - dense
        return auto_threshold.choose(lambda threshold: seen.damage(threshold * factors), changes), changes

    def _losses(self, work: "_Work", name: str, measure: Callable[[tuple[int, ...]], float]) -> float:
        """Mean over the held-out windows."""
        losses = [
            work.number(f"{name}_{i}", len(tokens), functools.partial(measure, tokens))
            for i, tokens in enumerate(self._windows.held_out)
        ]
        return float(np.mean(losses))

    def _ablate(self, work: "_Work") -> np.ndarray:
        tokens = self._windows.held_out[0][: self._options.amount.ablation_tokens]
        layers, heads = self._meter.shape

        def without(name: str, *index: int) -> float:
            ablated = np.zeros((layers, heads), bool)
            if index:
                ablated[index] = True
            return work.number(name, len(tokens), functools.partial(self._meter.loss_without, tokens, ablated))

        base = without("with_all")
        by_layer = np.array([without(f"without_{layer}", layer) for layer in range(layers)])
        by_head = [
            [without(f"without_{layer}_{head}", layer, head) for head in range(heads)] for layer in range(layers)
        ]
        return paper_budgets(base, np.array(by_head), by_layer, self._options.budget_clamp)

    def _cost(self) -> int:
        """Tokens of all steps."""
        windows, layers_heads = self._windows, self._meter.shape
        total = sum(map(len, windows.fit)) + len(windows.longest)
        total += (1 + len(auto_threshold.PROBES)) * sum(map(len, windows.held_out))
        if self._options.paper_budgets:
            runs = 1 + layers_heads[0] + layers_heads[0] * layers_heads[1]
            total += runs * min(self._options.amount.ablation_tokens, len(windows.held_out[0]))
        return total

    def _note(self, seen: Observations, plan: Plan, changes: dict[float, float]) -> dict[str, Any]:
        windows = self._windows
        length = len(windows.fit[0])
        kept = keep_of_text(seen, plan.threshold_factors, self._forced, plan.auto_threshold, length)
        return {
            "text": windows.source,
            "sha256_of_tokens": windows.sha256,
            "observed_windows": len(windows.fit),
            "held_out_windows": len(windows.held_out),
            "window": length,
            "longest": len(windows.longest),
            "effort": self._options.effort,
            "auto_threshold": plan.auto_threshold,
            "auto_keep_at_window": kept,
            "change_percent_at_threshold": {f"{t:.4g}": 100 * (float(np.exp(c)) - 1) for t, c in changes.items()},
            "paper_budgets": self._options.paper_budgets,
        }


class _Work:
    """Runs steps and says how far they are; those of an earlier run are not counted as work."""

    def __init__(self, steps: Steps, total: int) -> None:
        self._steps = steps
        self._total = total
        self._done = 0
        self._progress = Progress("calibrate", "tokens")

    def __enter__(self) -> "_Work":
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.close()

    def step(self, name: str, tokens: int, compute: Callable[[], Arrays]) -> dict[str, np.ndarray]:
        self._progress.update(self._done, self._total, name)
        if self._steps.has(name):
            self._total -= tokens
            return self._steps.run(name, compute)
        result = self._steps.run(name, compute)
        self._done += tokens
        self._progress.update(self._done, self._total, name)
        return result

    def number(self, name: str, tokens: int, compute: Callable[[], float]) -> float:
        return float(self.step(name, tokens, lambda: {"value": np.array(compute())})["value"])
