"""The suite's results as one Markdown page with pictures, and how it gets into docs/performance.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import publish as pages
import speed_plots
from speed_tables import sections

from shadowattn.runtime.evaluate.plots import can_plot

MARKER = "<!-- What follows is written by `make bench BENCH=--publish`. -->"
_TITLES = {"attention_speed": "Attention alone", "thread_scaling": "Threads", "end_to_end": "End to end"}


def write_document(path: Path, command: str, results: Sequence[dict[str, Any]], missing: Sequence[str]) -> None:
    """command: of the whole suite. missing: why parts are not there."""
    lines = ["# Performance", "", "```", command, "```", ""]
    lines += [line for reason in missing for line in (f"Missing: {reason}", "")]
    for result in results:
        lines += [f"## {_TITLES[result['suite']]}", "", "```", result["command"], "```", ""]
        lines += [line for section in sections(result) for line in (section.as_markdown(), "")]
        if can_plot():
            pictures = speed_plots.draw(result, path.parent)
            lines += [line for picture in pictures for line in (f"![{picture.stem}]({picture.name})", "")]
        else:
            lines += ["No pictures: matplotlib is not installed (the extra `plots`).", ""]
    path.write_text("\n".join(lines).rstrip() + "\n", "utf-8")


def publish(document: Path, page: Path) -> list[Path]:
    """Puts the document behind the marker of the page, which is made if it is not there; returns the pictures copied.

    publish.py knows one marker, that of docs/accuracy.md: the page has it while it is written.
    """
    text = page.read_text("utf-8") if page.is_file() else f"# Performance\n\n{MARKER}\n"
    if MARKER not in text:
        raise ValueError(f"{page}: wanted a line {MARKER!r}, behind which the tables go")
    page.write_text(text.replace(MARKER, pages.MARKER), "utf-8")
    try:
        return pages.publish(document, page)
    finally:
        page.write_text(page.read_text("utf-8").replace(pages.MARKER, MARKER), "utf-8")
