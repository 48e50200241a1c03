"""One evaluation from options to a report: a dict that JSON can hold, with a row per task, text and variant."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from shadowattn.models.bundle import Manifest, read_manifest
from shadowattn.models.plan import Plan
from shadowattn.models.progress import Progress, waiting
from shadowattn.runtime.evaluate import estimates, greedy, heads, perplexity, retrieval
from shadowattn.runtime.evaluate.model_reference import FloatModel, open_model
from shadowattn.runtime.evaluate.needle import Case
from shadowattn.runtime.evaluate.options import DENSE, EvalOptions, Variant
from shadowattn.runtime.evaluate.sessions import Advance, Opener
from shadowattn.runtime.evaluate.texts import EvalText, Window, check_length, load_texts, plan_windows, window_length
from shadowattn.runtime.session.session import Session
from shadowattn.runtime.text.tokenizer import BundleTokenizer


def evaluate(bundle: Path, options: EvalOptions, verbosity: int = 0) -> dict[str, Any]:
    """Runs the tasks, with progress on stderr. Raises ValueError, before any of them starts, for what cannot be done;
    OSError for a text that cannot be read."""
    manifest = read_manifest(bundle)
    with waiting("reading the texts"):
        texts = load_texts(bundle, manifest, options)
        work = _plan(bundle, manifest, texts, options)
    return _Evaluation(bundle, manifest, options, texts, work, verbosity).report()


@dataclasses.dataclass(frozen=True)
class _Work:
    """What there is to run; empty for a task that was not asked for."""

    window: int
    windows: list[tuple[EvalText, list[Window]]]
    cases: dict[int, list[Case]]
    prompts: list[greedy.Prompt]
    model: FloatModel | None


def _plan(bundle: Path, manifest: Manifest, texts: list[EvalText], options: EvalOptions) -> _Work:
    tasks = set(options.tasks)
    window = window_length(options, manifest)
    windows: list[tuple[EvalText, list[Window]]] = []
    if tasks & {"perplexity", "heads", "estimate"}:
        for text in texts:
            check_length(text, window, "--window")
            count = min(len(text.evaluated), options.max_tokens)
            windows.append((text, list(plan_windows(count, window, options.stride or window))))
    cases = retrieval.build_cases(bundle, manifest, texts, options) if "needle" in tasks else {}
    prompts = _prompts(manifest, texts, options) if "greedy" in tasks else []
    model = None if options.reference is None else open_model(Path(options.reference), manifest)
    return _Work(window, windows, cases, prompts, model)


def _prompts(manifest: Manifest, texts: list[EvalText], options: EvalOptions) -> list[greedy.Prompt]:
    most = options.session.get("max_length") or manifest.max_length
    needed = options.prompt_tokens + options.continue_tokens
    if needed > most:
        raise ValueError(
            f"--prompt_tokens, --continue_tokens: wanted at most the {most:,} positions of a session together, got "
            f"{needed:,}; use shorter prompts or convert the model with a larger --max_length"
        )
    for text in texts:
        check_length(text, options.prompt_tokens, "--prompt_tokens")
    return greedy.cut_prompts(texts, options.prompts, options.prompt_tokens)


class _Evaluation:
    """Runs the tasks one after another and shows how far each is."""

    def __init__(
        self,
        bundle: Path,
        manifest: Manifest,
        options: EvalOptions,
        texts: list[EvalText],
        work: _Work,
        verbosity: int,
    ) -> None:
        self._bundle = bundle
        self._manifest = manifest
        self._options = options
        self._texts = texts
        self._work = work
        self._variants: tuple[Variant, ...] = options.variants()
        self._opener = Opener(bundle, options, verbosity)

    def report(self) -> dict[str, Any]:
        report = self._head()
        for task in dict.fromkeys(self._options.tasks):
            report["rows"] += getattr(self, f"_{task}")(report)
        return report

    def _head(self) -> dict[str, Any]:
        with waiting(f"opening {self._bundle}"), self._opener.open(DENSE) as session:
            facts = {"isa": session.isa, "num_threads": session.num_threads}
        tokens = {text.file: sum(w.end - w.start for w in windows) for text, windows in self._work.windows}
        texts = [
            {"file": text.file, "name": text.name, "sha256": text.sha256, "tokens": tokens.get(text.file)}
            for text in self._texts
        ]
        return {
            "bundle": str(self._bundle),
            "model": self._manifest.name,
            "weights": self._manifest.weights,
            **facts,
            "texts": texts,
            "settings": dataclasses.asdict(self._options) | {"window": self._work.window},
            "notes": self._notes(),
            "rows": [],
        }

    def _notes(self) -> list[str]:
        """What a reader of the tables must know of this bundle, and of texts that were named."""
        return [*self._compared_with(), *self._uniform_budgets(), *(self._left_out() if self._options.texts else [])]

    def _compared_with(self) -> list[str]:
        name = self._options.reference
        return [] if name is None else [f"perplexity is compared with the float32 model {name}, not with dense"]

    def _left_out(self) -> list[str]:
        """The end of a text of which only a part is scored, which is as --max_tokens and --window have it."""
        notes = []
        for text, windows in self._work.windows:
            scored = max(window.end for window in windows)
            left = len(text.evaluated) - scored
            if left or not text.whole:
                rest = f"the other {left:,}" if text.whole else "the rest"
                scores = f"{text.name}: {scored:,} tokens in whole windows are scored"
                notes.append(f"{scores}, {rest} left out (--max_tokens, --window)")
        return notes

    def _uniform_budgets(self) -> list[str]:
        if all(variant.mode != "shadow_paper" for variant in self._variants):
            return []
        if np.ptp(self._plan().paper_budgets) > 0:
            return []
        return [
            "shadow_paper runs with the same budget for every head: this bundle has none by ablation; "
            "`shadowattn calibrate --paper_budgets` measures them"
        ]

    def _plan(self) -> Plan:
        return Plan.from_bytes((self._bundle / self._manifest.plan_file).read_bytes())

    def _perplexity(self, report: dict[str, Any]) -> list[dict[str, Any]]:
        total = sum(w.end - w.start for _, windows in self._work.windows for w in windows) * len(self._variants)
        model = self._float_model()
        with _Counter("perplexity", "tokens", total) as counter:
            rows = perplexity.perplexity_rows(
                self._opener, self._variants, self._work.windows, self._work.window, counter.advance, model
            )
        report["summary"] = perplexity.worst_texts(rows)
        return rows

    def _float_model(self) -> FloatModel | None:
        """What --reference names, with every window read."""
        if self._work.model is None:
            return None
        windows = [text.evaluated[place.start : place.end] for text, places in self._work.windows for place in places]
        with contextlib.closing(Progress("float model", "layers")) as shown:
            self._work.model.read(windows, shown.update)
        return self._work.model

    def _needle(self, report: dict[str, Any]) -> list[dict[str, Any]]:
        cases = self._work.cases
        total = sum(len(case.token_ids) for own in cases.values() for case in own) * len(self._variants)
        tokenizer = BundleTokenizer.open(self._bundle, self._manifest)
        with _Counter("needle", "prompt tokens", total) as counter:
            rows, entries = retrieval.needle_rows(self._opener, self._variants, cases, tokenizer, counter.advance)
        report["needle_cases"] = entries
        return rows

    def _greedy(self, report: dict[str, Any]) -> list[dict[str, Any]]:
        prompts = self._work.prompts
        report["greedy_prompts"] = [{"text": prompt.text, "start": prompt.start} for prompt in prompts]
        steps = self._options.continue_tokens
        with _Counter("greedy", "prompts", len(prompts) * len(self._variants)) as counter:
            return greedy.greedy_rows(self._opener, self._variants, prompts, steps, counter.advance)

    def _heads(self, report: dict[str, Any]) -> list[dict[str, Any]]:
        total = sum(len(windows) for _, windows in self._work.windows) * len(self._variants)
        with _Counter("heads", "windows", total) as counter:
            return heads.head_rows(self._opener, self._variants, self._work.windows, counter.advance)

    def _estimate(self, report: dict[str, Any]) -> list[dict[str, Any]]:
        window = self._work.window
        [calibration] = load_texts(self._bundle, self._manifest, dataclasses.replace(self._options, texts=()))
        options = dict(self._options.session) | {"executor": "pipelined", "mode": "dense"}
        with (
            _Counter("estimate", "windows", 1 + len(self._texts)) as counter,
            Session.open(self._bundle, **options) as session,
        ):
            return estimates.estimate_rows(session, self._plan(), calibration, self._texts, window, counter.advance)


class _Counter:
    """A progress line that is told how much more was done."""

    def __init__(self, label: str, unit: str, total: int) -> None:
        self._progress = Progress(label, unit)
        self._total = total
        self._done = 0
        self.advance: Advance = self._advance

    def __enter__(self) -> "_Counter":
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.close()

    def _advance(self, count: int, note: str) -> None:
        self._done += count
        self._progress.update(self._done, self._total, note)
