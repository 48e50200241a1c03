"""`make accuracy`: docs/figures/accuracy.md, all of it by `shadowattn eval` on texts that nothing was fitted to.

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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import texts as text_files
from accuracy_sections import Bundles, Part, Section, full_sections, short_sections
from publish import publish
from remaining import Remaining

from shadowattn.models.bundle import MANIFEST
from shadowattn.runtime.evaluate import plots
from shadowattn.runtime.evaluate.evaluation import evaluate
from shadowattn.runtime.evaluate.options import EvalOptions
from shadowattn.runtime.evaluate.perplexity import worst_texts
from shadowattn.runtime.evaluate.report import tables
from shadowattn.runtime.litert.delegate import library_path
from shadowattn.runtime.measure.table import format_markdown

BUNDLE = Path(".demo/smollm2.bundle")
FLOAT32_BUNDLE = Path(".demo/smollm2-float32.bundle")
OUT = Path("build/accuracy")
PAGE = Path("docs/figures/accuracy.md")


# --- computing it, once ---


class Store:
    """Finished parts in a folder. A part is known again by its settings, the bundle and the texts."""

    def __init__(self, folder: Path, force: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
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
        report = evaluate(part.bundle, part.options)
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
        files = [_sha256(part.bundle / MANIFEST), *(_sha256(Path(file)) for file in part.options.texts)]
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
    remaining = Remaining(missing)
    for number, (section, part, report) in enumerate(waiting, 1):
        outcome = outcomes[section.name]
        if report is None:
            print(
                f"accuracy: {part.name}, part {number} of {len(waiting)}{remaining.in_words()}",
                file=sys.stderr,
                flush=True,
            )
            try:
                report = store.compute(part)
            except ValueError as error:
                print(f"accuracy: FAILED {part.name}: {error}", file=sys.stderr)
                outcome.failures.append(f"{part.name}: {error}")
                remaining.skipped(part.cost())
                continue
            remaining.finished(part.cost())
        outcome.reports.append(report)
    return list(outcomes.values())


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
    path: Path, outcomes: Sequence[Outcome], texts: Sequence[text_files.Text], notes: Sequence[str]
) -> None:
    """The tables as Markdown, each section under its command line; pictures beside it where matplotlib is there."""
    first = next(((outcome.section.bundle, outcome.reports[0]) for outcome in outcomes if outcome.reports), None)
    lines = ["# Accuracy", "", "```", "make accuracy", "```", ""]
    if first is not None:
        lines += [f"{first[1]['model']} ({first[1]['weights']}), ISA {first[1]['isa']}, bundle `{first[0]}`.", ""]
    rows = [[text.name, text.role, text.source, f"`{text.sha256}`"] for text in texts]
    lines += [format_markdown(("text", "role", "source", "SHA-256"), rows), "", *(f"Missing: {n}" for n in notes), ""]
    for outcome in outcomes:
        lines += _section_lines(outcome, path.parent)
    path.write_text("\n".join(lines).rstrip() + "\n", "utf-8")


def _section_lines(outcome: Outcome, folder: Path) -> list[str]:
    section = outcome.section
    options = dataclasses.replace(section.options, session=_without_threads(section.options.session))
    lines = [f"## {section.title}", "", "```", command_line(section.bundle, options), "```", ""]
    lines += [f"Missing: {reason}\n" for reason in outcome.failures]
    notes = dict.fromkeys(note for report in outcome.reports for note in report["notes"])
    lines += [f"Note: {note}.\n" for note in notes]
    rows = outcome.rows()
    perplexity = [row for row in rows if row["task"] == "perplexity"]
    for table in tables(rows, worst_texts(perplexity)):
        lines += [f"{table.title}:", "", format_markdown(table.header, table.rows), ""]
    if plots.can_plot():
        for picture in plots.draw(rows, folder / section.name):
            lines += [f"![{picture.stem}]({section.name}/{picture.name})", ""]
    return lines


def _without_threads(session: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in session.items() if name != "num_threads"}


# --- the command ---


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="default: the one `make demo` makes")
    parser.add_argument("--float32_bundle", type=Path, default=FLOAT32_BUNDLE, help="the same model, --weights=float32")
    parser.add_argument("--out", type=Path, default=None, help="default: build/accuracy, or build/accuracy/short")
    parser.add_argument("--only", default="", help="names of sections, with commas between; default: all")
    parser.add_argument("--short", action="store_true", help="a trial of a few minutes")
    parser.add_argument("--force", action="store_true", help="compute again what is finished")
    parser.add_argument("--publish", action="store_true", help=f"write {PAGE}, too")
    parser.add_argument("--num_threads", type=int, default=None, help="default: all CPUs")
    return parser.parse_args(words)


def select(sections: Sequence[Section], only: str) -> list[Section]:
    """The sections named. Raises SystemExit for a name that no section has."""
    names = [section.name for section in sections]
    wanted = only.split(",") if only else names
    for name in wanted:
        if name not in names:
            raise SystemExit(f"accuracy: --only: wanted some of {', '.join(names)}, got {name!r}")
    return [section for section in sections if section.name in wanted]


def _bundles(arguments: argparse.Namespace, skip: Callable[[str, str], None]) -> Bundles:
    if (arguments.float32_bundle / MANIFEST).is_file():
        return Bundles(arguments.bundle, arguments.float32_bundle)
    skip(str(arguments.float32_bundle), "no bundle of float32 weights there; `make accuracy` makes one")
    return Bundles(arguments.bundle)


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
    if arguments.short:
        sections = short_sections(files, session, arguments.bundle)
    else:
        sections = full_sections(files, session, _bundles(arguments, skip))
    outcomes = compute_sections(select(sections, arguments.only), Store(out, arguments.force))
    document = out / "accuracy.md"
    write_document(document, outcomes, texts, notes)
    print(f"wrote {document}")
    if arguments.publish:
        print("wrote", ", ".join(map(str, publish(document, PAGE))))
    return 1 if any(outcome.failures for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
