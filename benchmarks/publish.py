"""Puts a measured document and its pictures into a page of docs/, behind the marker that says where it begins."""

import re
import shutil
from pathlib import Path

MARKER = "<!-- What follows is written by `make accuracy ACCURACY=--publish`. -->"
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+\.png)\)")


def publish(document: Path, page: Path, marker: str = MARKER) -> list[Path]:
    """Replaces what follows the marker in `page` by `document` without its title; copies the pictures it shows to
    images/ beside the page, without folders, and returns them. Raises ValueError for a page without the marker."""
    text = page.read_text("utf-8")
    if marker not in text:
        raise ValueError(f"{page}: wanted a line {marker!r}, behind which the tables go")
    body = document.read_text("utf-8").split("\n", 1)[1].strip()
    images = page.parent / "images"
    copied = []
    for name in dict.fromkeys(match[1] for match in _PICTURE.findall(body)):
        images.mkdir(exist_ok=True)
        copied.append(Path(shutil.copy(document.parent / name, images / _flat(name))))
    body = _PICTURE.sub(lambda match: f"![{match[1]}]({images.name}/{_flat(match[2])})", body)
    page.write_text(text.split(marker)[0] + f"{marker}\n\n{body}\n", "utf-8")
    return copied


def _flat(name: str) -> str:
    """Of a picture in a folder: the folder's name before its own, unless that says it already."""
    folder, _, own = name.rpartition("/")
    return own if own.startswith(folder) else f"{folder}_{own}"
