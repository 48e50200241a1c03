"""The README tells the truth: its file map is the tree, its commands exist, its links lead somewhere."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def tracked_folders() -> set[str]:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return {file.split("/")[0] + "/" for file in files if "/" in file and not file.startswith(".")}


def test_file_map_names_every_folder_and_nothing_else() -> None:
    mapped = set(re.findall(r"^\| `([\w.-]+/)` \|", README, re.MULTILINE))
    assert mapped == tracked_folders()


def test_make_targets_in_docs_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([\w./-]+):", makefile, re.MULTILINE))
    for doc in DOCS:
        for target in re.findall(r"`make ([\w./-]+)", doc.read_text("utf-8")):
            assert target in targets, f"{doc.name}: make {target}"


def test_subcommands_in_docs_exist() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    commands = set(re.findall(r"^(\w+) = \"shadowattn\.(?:runtime|converter)[\w.]*:COMMAND\"", pyproject, re.MULTILINE))
    assert commands
    for doc in DOCS:
        for command in re.findall(r"(?:^|`|\$ )shadowattn ([a-z]+)(?: |`|$)", doc.read_text("utf-8"), re.MULTILINE):
            assert command in commands | {"help"}, f"{doc.name}: shadowattn {command}"


@pytest.mark.parametrize("doc", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_resolve(doc: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", doc.read_text("utf-8")):
        assert (doc.parent / link).exists(), f"{doc.name}: {link}"


def test_every_bad_input_has_its_test() -> None:
    text = (ROOT / "docs" / "bad_input.md").read_text("utf-8")
    situations = len(re.findall(r"^- ", text, re.MULTILINE))
    rows = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`$", text, re.MULTILINE)
    assert len(rows) == situations >= 25
    for file, test in rows:
        texts = [path.read_text("utf-8") for path in (ROOT / "tests").rglob(file)]
        assert any(f"def {test}" in text for text in texts), f"{file} has no {test or 'test'}"
