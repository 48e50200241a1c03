"""The texts of docs/accuracy.md: their archives are checked and read, their markup goes, what fails is said."""

import hashlib
import io
import tarfile
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import texts

from shadowattn.runtime.evaluate.needle import split_sentences


def test_brown_tags_go() -> None:
    tagged = (
        "\n\n\t``/`` Both/dtx sides/nns agreed/vbd ''/'' ,/, he/pps said/vbd ;/. ;/.\n"
        "it/pps cost/vbd 1/2/cd (/( or/cc so/rb )/) ?/. ?/.\n\n\n\tAnd/cc Wouldn't/md* go/vb ./.\n"
    )
    assert texts.strip_brown_tags(tagged) == '"Both sides agreed", he said; it cost 1/2 (or so)?\n\nAnd Wouldn\'t go.'


def test_brown_samples_take_turns() -> None:
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
def net(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """URL -> what is there; anything else is a failure to connect."""
    served: dict[str, bytes] = {}

    def urlopen(url: str, timeout: float) -> Any:
        if url not in served:
            raise urllib.error.URLError("no network here")
        return io.BytesIO(served[url])

    monkeypatch.setattr(texts.urllib.request, "urlopen", urlopen)
    return served


def test_fetching(net: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tgz(b="second", a="first", readme="no")
    archive = texts.Archive("https://x.org/t.tgz", hashlib.sha256(data).hexdigest(), "[ab]", " ".join)
    archive = texts.dataclasses.replace(archive, to_text=lambda members: " ".join(members.values()))
    monkeypatch.setattr(texts, "ARCHIVES", {"tale": archive})
    skipped: list[tuple[str, str]] = []

    def skip(name: str, reason: str) -> None:
        skipped.append((name, reason))

    found = texts.fetch_texts(skip, tmp_path)
    assert skipped == [("tale", "https://x.org/t.tgz: no network here")]
    assert [(text.name, text.role) for text in found] == [
        ("python_source", "held out"),
        ("pydoc_topics", "calibration"),
    ]
    net["https://x.org/t.tgz"] = data
    (tale, *_) = texts.fetch_texts(skip, tmp_path)
    assert tale.path.read_text() == "first second"
    assert tale.sha256 == hashlib.sha256(b"first second").hexdigest()
    del net["https://x.org/t.tgz"]
    assert texts.fetch_texts(skip, tmp_path)[0] == tale  # from the folder
    (tmp_path / "t.tgz").write_bytes(b"broken")
    net["https://x.org/t.tgz"] = b"another"
    with pytest.raises(ValueError, match=r"https://x.org/t.tgz: wanted SHA-256 .*, got .*; is there a proxy"):
        texts.fetch_texts(skip, tmp_path)


def test_texts_of_this_python() -> None:
    source = texts.python_source()
    assert source.startswith("class _AttributeHolder")
    assert "class Decimal" in source
    assert len(split_sentences(texts.pydoc_topics())) > 1000
