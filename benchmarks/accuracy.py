"""`make accuracy`: every table and picture of docs/accuracy.md, by `shadowattn eval` on texts nothing was fitted to.

python benchmarks/accuracy.py [--short] [--only=SECTION,...] [--force] [--publish] [--bundle=...] [--num_threads=N]

Each section is one command line, run in parts; a part that is finished lies in build/accuracy as JSON and is not
computed again, unless the bundle, a text or the settings changed. So it may be stopped and started at any time.
"""

import argparse
import dataclasses
import hashlib
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import texts as text_files
from publish import publish

from shadowattn.models.bundle import MANIFEST
from shadowattn.runtime.delegate import library_path
from shadowattn.runtime.evaluate import plots
from shadowattn.runtime.evaluate.evaluation import evaluate
from shadowattn.runtime.evaluate.options import EvalOptions
from shadowattn.runtime.evaluate.perplexity import worst_texts
from shadowattn.runtime.evaluate.report import tables
from shadowattn.runtime.modes import MODES
from shadowattn.runtime.table import format_markdown

BUNDLE = Path(".demo/smollm2.bundle")
OUT = Path("build/accuracy")
PAGE = Path("docs/accuracy.md")
_USUAL_LENGTHS = (1000, 2000, 4000, 8000)


@dataclasses.dataclass(frozen=True)
class Section:
    """A command line and its tables. split: the option whose values are computed one at a time."""

    name: str
    title: str
    options: EvalOptions
    split: str

    def parts(self) -> "list[Part]":
        """In the order of the tables' rows."""
        found = []
        for value in getattr(self.options, self.split):
            label = Path(value).stem if self.split == "texts" else str(value).replace(":", "_")
            change: dict[str, Any] = {self.split: (value,)}
            options = dataclasses.replace(self.options, **change)
            found.append(Part(f"{self.name}_{label}", options))
        return found


@dataclasses.dataclass(frozen=True)
class Part:
    """What is computed and stored at once."""

    name: str
    options: EvalOptions

    def cost(self) -> float:
        """About proportional to the time it takes: tokens, which cost more the longer the prompt is."""
        options = self.options
        work = 0.0
        if "estimate" in options.tasks:
            work += 2 * _cost(options.window or 2048, options.window or 2048)
        if {"perplexity", "heads"} & set(options.tasks):
            work += len(options.texts) * _cost(options.max_tokens, options.window or 2048)
        for length in (options.needle_lengths or _USUAL_LENGTHS) if "needle" in options.tasks else ():
            work += _cost(length * len(options.needle_depths) * options.needles, length)
        if "greedy" in options.tasks:
            prefill = options.prompts * options.prompt_tokens
            decode = 10 * options.prompts * options.continue_tokens  # one at a time
            work += _cost(prefill + decode, options.prompt_tokens)
        return work * len(options.variants())


def _cost(tokens: int, length: int) -> float:
    return tokens * (1 + length / 4000)


# --- what is measured ---


def full_sections(files: Sequence[str], session: Mapping[str, Any]) -> list[Section]:
    """docs/accuracy.md. files: the held-out texts; needles and heads want prose."""
    common: dict[str, Any] = {"texts": tuple(files), "session": session}
    prose: dict[str, Any] = common | {
        "texts": tuple(file for file in files if "python" not in Path(file).stem) or tuple(files)
    }
    ours = ("shadow", "shadow@0.1", "shadow@0.05", "shadow@0.02")
    others: tuple[str, ...] = ("shadow:no_tail@0.05", "shadow_paper@0.2", "shadow_paper@0.1", "shadow_paper@0.05")
    others += ("float_estimate@0.2", "float_estimate@0.05", "block_sparse@0.2", "block_sparse@0.05")
    whole = ("int8", "npu_full")
    auto: dict[str, Any] = {"keep_ratios": ("auto",)}
    plain = EvalOptions(modes=(*whole, *ours, *others), window=2048, max_tokens=8192, **auto, **common)
    long = EvalOptions(modes=("int8", *ours, "shadow_paper@0.2"), window=8192, max_tokens=8192, **auto, **common)
    needle = EvalOptions(
        modes=(*ours[1:], "shadow_paper@0.2"), tasks=("needle",), needle_lengths=_USUAL_LENGTHS,
        needle_depths=(0.2, 0.7), **auto, **prose,
    )  # fmt: skip
    greedy = EvalOptions(
        modes=(*whole, *ours, "shadow_paper@0.2", "block_sparse@0.2"), tasks=("greedy",), prompts=10,
        prompt_tokens=1000, **auto, **prose,
    )  # fmt: skip
    heads = EvalOptions(
        modes=("shadow@0.1", "shadow@0.05", "shadow_paper@0.2"), tasks=("heads",), window=2048, max_tokens=4096,
        **auto, **prose,
    )  # fmt: skip
    estimate = EvalOptions(tasks=("estimate",), window=2048, max_tokens=2048, **common)
    return [
        Section("perplexity_2048", "Perplexity, windows of 2,048 tokens", plain, "texts"),
        Section("perplexity_8192", "Perplexity, windows of 8,192 tokens", long, "texts"),
        Section("needle", "Needles", needle, "needle_lengths"),
        Section("greedy", "Greedy continuations", greedy, "texts"),
        Section("heads", "Layers and heads", heads, "texts"),
        Section("estimate", "Static INT8 estimates", estimate, "texts"),
    ]


def short_sections(files: Sequence[str], session: Mapping[str, Any]) -> list[Section]:
    """The same form, in a few minutes: whether it all works, and which mode is ahead."""
    text: dict[str, Any] = {"texts": (files[0],), "session": session, "keep_ratios": (0.1, 0.05)}
    plain = EvalOptions(modes=(*MODES, "shadow:no_tail"), window=1024, max_tokens=2048, **text)
    needle = EvalOptions(
        modes=("int8", "shadow"), tasks=("needle",), needle_lengths=(1000,), needle_depths=(0.3, 0.7), needles=2, **text
    )
    greedy = EvalOptions(
        modes=("int8", "shadow"), tasks=("greedy",), prompts=3, prompt_tokens=1000, continue_tokens=16, **text
    )
    heads = EvalOptions(modes=("shadow@0.05",), tasks=("heads",), window=512, max_tokens=512, **text)
    return [
        Section("perplexity_1024", "Perplexity, windows of 1,024 tokens", plain, "texts"),
        Section("needle", "Needles", needle, "needle_lengths"),
        Section("greedy", "Greedy continuations", greedy, "texts"),
        Section("heads", "Layers and heads", heads, "texts"),
        Section("estimate", "Static INT8 estimates", dataclasses.replace(heads, tasks=("estimate",)), "texts"),
    ]


# --- computing it, once ---


class Store:
    """Finished parts in a folder. A part is known again by its settings, the bundle and the texts."""

    def __init__(self, folder: Path, bundle: Path, force: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._bundle = bundle
        self._force = force

    def finished(self, part: Part) -> dict[str, Any] | None:
        """The stored report, or None if it must be computed."""
        path = self._path(part)
        if not path.is_file() or self._force:
            return None
        report: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if report.get("fingerprint") != self._fingerprint(part):
            print(f"accuracy: {path}: of another bundle, text or setting; computed again", file=sys.stderr)
            return None
        if report.get("delegate_sha256") != _sha256(library_path()):
            print(f"accuracy: {path}: KEPT, but another build of the delegate made it; --force renews", file=sys.stderr)
        return report

    def compute(self, part: Part) -> dict[str, Any]:
        """Raises ValueError for what this delegate or bundle cannot do."""
        report = evaluate(self._bundle, part.options)
        report |= {"fingerprint": self._fingerprint(part), "delegate_sha256": _sha256(library_path())}
        path = self._path(part)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        unfinished.replace(path)
        return report

    def _path(self, part: Part) -> Path:
        return self._folder / f"{part.name}.json"

    def _fingerprint(self, part: Part) -> str:
        """The manifest holds the hashes of the bundle's other files. The number of threads changes seconds only."""
        session = {name: value for name, value in part.options.session.items() if name != "num_threads"}
        settings = dataclasses.asdict(part.options) | {"session": session}
        files = [_sha256(self._bundle / MANIFEST), *(_sha256(Path(file)) for file in part.options.texts)]
        return hashlib.sha256(json.dumps([settings, files], sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A section's reports, and why parts are missing."""

    section: Section
    reports: list[dict[str, Any]]
    failures: list[str]

    def rows(self) -> list[dict[str, Any]]:
        """Of all parts; dense is in each of them, and is wanted once."""
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        for report in self.reports:
            for row in report["rows"]:
                key = ("task", "text", "window", "length", "mode", "scheme", "keep_ratio")
                found.setdefault(tuple(row.get(name) for name in key), row)
        return list(found.values())


def compute_sections(sections: Sequence[Section], store: Store) -> list[Outcome]:
    """Says before each part which it is and how long the rest may take."""
    waiting = [(section, part, store.finished(part)) for section in sections for part in section.parts()]
    outcomes = {section.name: Outcome(section, [], []) for section in sections}
    missing = sum(part.cost() for _, part, report in waiting if report is None)
    clock = _Clock(missing)
    for number, (section, part, report) in enumerate(waiting, 1):
        outcome = outcomes[section.name]
        if report is None:
            print(f"accuracy: {part.name}, part {number} of {len(waiting)}{clock.left()}", file=sys.stderr, flush=True)
            try:
                report = store.compute(part)
            except ValueError as error:
                print(f"accuracy: FAILED {part.name}: {error}", file=sys.stderr)
                outcome.failures.append(f"{part.name}: {error}")
                clock.skipped(part.cost())
                continue
            clock.finished(part.cost())
        outcome.reports.append(report)
    return list(outcomes.values())


class _Clock:
    """Time left, from what the parts before took."""

    def __init__(self, cost: float) -> None:
        self._left = cost
        self._done = 0.0
        self._seconds = 0.0
        self._since = time.monotonic()

    def finished(self, cost: float) -> None:
        now = time.monotonic()
        self._seconds += now - self._since
        self._done += cost
        self._since = now
        self._left -= cost

    def skipped(self, cost: float) -> None:
        self._since = time.monotonic()
        self._left -= cost

    def left(self) -> str:
        if not self._done:
            return ""
        return f"; about {self._seconds / self._done * self._left / 60:.0f} min left"


# --- the document ---


def command_line(bundle: Path, options: EvalOptions) -> str:
    """The `shadowattn eval` that does the same: every flag that is not at its default."""
    usual = EvalOptions()
    words = ["shadowattn", "eval", str(bundle)]
    for field in dataclasses.fields(EvalOptions):
        value = getattr(options, field.name)
        if field.name == "session":
            words += [f"--{name}={setting}" for name, setting in value.items() if setting is not None]
        elif value != getattr(usual, field.name) or field.name in ("modes", "keep_ratios"):
            name = "text" if field.name == "texts" else field.name
            words.append(f"--{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}")
    return shlex.join(words)


def write_document(
    path: Path, outcomes: Sequence[Outcome], bundle: Path, texts: Sequence[text_files.Text], notes: Sequence[str]
) -> None:
    """The tables as Markdown, each section under its command line; pictures beside it where matplotlib is there."""
    first = next((outcome.reports[0] for outcome in outcomes if outcome.reports), None)
    lines = ["# Accuracy", ""]
    if first is not None:
        lines += [f"{first['model']} ({first['weights']}), ISA {first['isa']}, bundle `{bundle}`.", ""]
    rows = [[text.name, text.role, text.source, f"`{text.sha256}`"] for text in texts]
    lines += [format_markdown(("text", "role", "source", "SHA-256"), rows), "", *(f"Missing: {n}" for n in notes), ""]
    for outcome in outcomes:
        lines += _section_lines(outcome, bundle, path.parent)
    path.write_text("\n".join(lines).rstrip() + "\n", "utf-8")


def _section_lines(outcome: Outcome, bundle: Path, folder: Path) -> list[str]:
    options = dataclasses.replace(outcome.section.options, session=_without_threads(outcome.section.options.session))
    lines = [f"## {outcome.section.title}", "", "```", command_line(bundle, options), "```", ""]
    lines += [f"Missing: {reason}\n" for reason in outcome.failures]
    notes = dict.fromkeys(note for report in outcome.reports for note in report["notes"])
    lines += [f"Note: {note}.\n" for note in notes]
    rows = outcome.rows()
    perplexity = [row for row in rows if row["task"] == "perplexity"]
    for table in tables(rows, worst_texts(perplexity)):
        lines += [f"{table.title}:", "", format_markdown(table.header, table.rows), ""]
    if plots.can_plot():
        pictures = plots.draw(rows, folder)
        lines += [line for picture in pictures for line in (f"![{picture.stem}]({picture.name})", "")]
    return lines


def _without_threads(session: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in session.items() if name != "num_threads"}


# --- the command ---


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="default: the one `make demo` makes")
    parser.add_argument("--out", type=Path, default=None, help="default: build/accuracy, or build/accuracy/short")
    parser.add_argument("--only", default="", help="names of sections, with commas between; default: all")
    parser.add_argument("--short", action="store_true", help="a trial of a few minutes")
    parser.add_argument("--force", action="store_true", help="compute again what is finished")
    parser.add_argument("--publish", action="store_true", help=f"put the tables and pictures into {PAGE}")
    parser.add_argument("--num_threads", type=int, default=None, help="default: all CPUs")
    return parser.parse_args(words)


def choose(sections: Sequence[Section], only: str) -> list[Section]:
    """The sections named. Raises SystemExit for a name that is none."""
    names = [section.name for section in sections]
    wanted = only.split(",") if only else names
    for name in wanted:
        if name not in names:
            raise SystemExit(f"accuracy: --only: wanted some of {', '.join(names)}, got {name!r}")
    return [section for section in sections if section.name in wanted]


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(words)
    if not (arguments.bundle / MANIFEST).is_file():
        raise SystemExit(f"accuracy: {arguments.bundle}: there is no bundle; run `make demo` first, or give --bundle")
    out = arguments.out or (OUT / "short" if arguments.short else OUT)
    notes: list[str] = []

    def skip(name: str, reason: str) -> None:
        text_files.warn(name, reason)
        notes.append(f"{name}: {reason}")

    texts = text_files.fetch_texts(skip)
    files = [str(text.path) for text in texts if text.role == text_files.HELD_OUT]
    if not files:
        raise SystemExit("accuracy: none of the held-out texts can be had, see above")
    session = {} if arguments.num_threads is None else {"num_threads": arguments.num_threads}
    sections = (short_sections if arguments.short else full_sections)(files, session)
    store = Store(out, arguments.bundle, arguments.force)
    outcomes = compute_sections(choose(sections, arguments.only), store)
    document = out / "accuracy.md"
    write_document(document, outcomes, arguments.bundle, texts, notes)
    print(f"wrote {document}")
    if arguments.publish:
        print("wrote", ", ".join(map(str, [PAGE, *publish(document, PAGE)])))
    return 1 if any(outcome.failures for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
