"""Results as one Markdown page with pictures, and which page of docs/figures they belong to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import speed_plots
from speed_tables import sections

from shadowattn.runtime.evaluate.plots import can_plot

FIGURES = Path("docs/figures")
_TITLES = {"attention_speed": "Attention alone", "thread_scaling": "Threads", "end_to_end": "End to end"}
_PAGES = {"performance": "Performance", "peers": "Our runtime and its peers"}


def write_document(path: Path, command: str, results: Sequence[dict[str, Any]], missing: Sequence[str]) -> Path:
    """command: of the whole. missing: why parts are not there. Pictures lie beside the page and begin with its name."""
    title = _PAGES.get(path.stem, path.stem)
    lines = [f"# {title}: {isa_of(results) or 'nothing measured'}", "", "```", command, "```", ""]
    lines += [line for reason in missing for line in (f"Missing: {reason}", "")]
    for result in results:
        lines += [f"## {_TITLES[result['suite']]}", "", "```", result["command"], "```", ""]
        lines += [line for section in sections(result) for line in (section.as_markdown(), "")]
        if can_plot():
            pictures = speed_plots.draw(result, path)
            lines += [line for picture in pictures for line in (f"![{picture.stem}]({picture.name})", "")]
        else:
            lines += ["No pictures: matplotlib is not installed (the extra `plots`).", ""]
    path.write_text("\n".join(lines).rstrip() + "\n", "utf-8")
    return path


def page_of(document: Path, results: Sequence[dict[str, Any]]) -> Path:
    """A page per instruction set: docs/figures/peers_avx2.md."""
    return FIGURES / f"{document.stem}_{isa_of(results)}.md"


def isa_of(results: Sequence[dict[str, Any]]) -> str:
    """Of our delegate, in the first result; they are of one machine."""
    return str(results[0]["isa"]) if results else ""
