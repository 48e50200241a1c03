"""The pages of docs/: their lines are short, decisions say what holds since when, and the index names every page."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if "figures" not in path.parts]  # figures are written by commands
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
_WRITTEN = "<!-- What follows is written by"  # a command's part of a page


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_lines_are_at_most_120_characters(page: Path) -> None:
    text = page.read_text("utf-8").split(_WRITTEN)[0]
    long = [f"{page.name}:{i}: {len(line)}" for i, line in enumerate(text.split("\n"), 1) if len(line) > 120]
    assert not long


@pytest.mark.parametrize("page", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_number_title_status_and_date(page: Path) -> None:
    head = r"# (\d{4}): .+\n\n- Status: (accepted|superseded by|rejected).*\n- Date: \d{4}-\d\d-\d\d\n"
    match = re.match(head, page.read_text("utf-8"))
    assert match, f"{page.name}: wanted '# NNNN: title', then '- Status: ...' and '- Date: YYYY-MM-DD'"
    assert match[1] == page.name[:4]


def test_numbers_of_decisions_are_used_once_and_without_gaps() -> None:
    assert [path.name[:4] for path in DECISIONS] == [f"{i:04}" for i in range(1, len(DECISIONS) + 1)]


def test_the_index_names_every_page() -> None:
    links = set(re.findall(r"\]\(([\w./-]+\.md)\)", (DOCS / "index.md").read_text("utf-8")))
    assert links == {str(path.relative_to(DOCS)) for path in PAGES if path.name != "index.md"}
