"""The page keeps its own words, gets the tables, and finds its pictures."""

from pathlib import Path

import pytest
from publish import MARKER, _flat, publish


def test_publish_replaces_what_follows_the_marker(tmp_path: Path) -> None:
    (tmp_path / "out" / "needle").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    document, page = tmp_path / "out" / "accuracy.md", tmp_path / "docs" / "accuracy.md"
    document.write_text("# Accuracy\n\n| a |\n\n![loss](needle/loss.png)\n", "utf-8")
    (tmp_path / "out" / "needle" / "loss.png").write_bytes(b"picture")
    page.write_text(f"# Ours\n\nWords.\n\n{MARKER}\n\nold tables\n", "utf-8")
    for _ in range(2):  # the second time over what the first wrote
        assert publish(document, page) == [tmp_path / "docs" / "images" / "needle_loss.png"]
        assert page.read_text("utf-8") == f"# Ours\n\nWords.\n\n{MARKER}\n\n| a |\n\n![loss](images/needle_loss.png)\n"
    assert (tmp_path / "docs" / "images" / "needle_loss.png").read_bytes() == b"picture"


def test_a_picture_that_names_its_folder_keeps_its_name() -> None:
    assert [_flat(name) for name in ("heads/heads_a.png", "needle/loss.png", "loss.png")] == [
        "heads_a.png", "needle_loss.png", "loss.png"
    ]  # fmt: skip


def test_publish_refuses_a_page_without_marker(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# A\n", "utf-8")
    with pytest.raises(ValueError, match="wanted a line"):
        publish(tmp_path / "a.md", tmp_path / "a.md")
