"""Puts a measured document and its pictures below docs/: a page of figures that nobody edits by hand."""

import re
import shutil
from pathlib import Path

IMAGES = "images"  # beside the folder of the page
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+\.png)\)")
_WRITTEN = "<!-- Written by the command below; edit what it writes, not this page. -->"


def publish(document: Path, page: Path) -> list[Path]:
    """Writes `page` and the pictures that it shows; returns their paths. Pictures get the page's name before their own,
    so that two machines' pages may stand beside each other."""
    title, body = document.read_text("utf-8").split("\n", 1)
    images = page.parent.parent / IMAGES
    page.parent.mkdir(parents=True, exist_ok=True)
    images.mkdir(exist_ok=True)
    written = [page]
    for name in dict.fromkeys(match[1] for match in _PICTURE.findall(body)):
        target = images / _picture_name(name, document, page)
        written.append(Path(shutil.copy(document.parent / name, target)))

    def link(match: re.Match[str]) -> str:
        return f"![{match[1]}](../{IMAGES}/{_picture_name(match[2], document, page)})"

    page.write_text(f"{title}\n\n{_WRITTEN}\n\n{_PICTURE.sub(link, body).strip()}\n", "utf-8")
    return written


def _picture_name(name: str, document: Path, page: Path) -> str:
    """peers_ttft.png of peers.md becomes peers_avx2_ttft.png of peers_avx2.md; a folder becomes part of the name."""
    folder, _, own = name.rpartition("/")
    flat = own if own.startswith(folder) else f"{folder}_{own}"
    return f"{page.stem}_{flat.removeprefix(f'{document.stem}_')}"
