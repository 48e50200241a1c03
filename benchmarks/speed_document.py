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
    """Puts the document behind the marker of the page, which is made if need be; returns the pictures copied."""
    if not page.is_file():
        page.write_text(f"# Performance\n\n{MARKER}\n", "utf-8")
    return pages.publish(document, page, MARKER)
