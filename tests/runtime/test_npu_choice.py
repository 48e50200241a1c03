"""The grammar of --npu."""

from pathlib import Path

import pytest

from shadowattn.runtime.npu.choice import ExternalDelegate, NpuChoice


def test_host() -> None:
    choice = NpuChoice.parse("host")
    assert choice == NpuChoice()
    assert choice.on_host
    assert choice.name == "host INT8"


def test_a_delegate_with_options() -> None:
    choice = NpuChoice.parse("delegate:/v/libQnn.so?backend_type=htp&dir=%2Fa%26b%3Dc%25+%C3%A9&empty=", True)
    options = (("backend_type", "htp"), ("dir", "/a&b=c%+é"), ("empty", ""))
    assert choice == NpuChoice(None, ExternalDelegate("/v/libQnn.so", options), True)
    assert not choice.on_host
    assert choice.name == "delegate libQnn.so"


def test_paths_are_taken_as_they_are() -> None:
    choice = NpuChoice.parse("delegate:lib%20a=b&c+d.so")
    assert choice.delegate == ExternalDelegate("lib%20a=b&c+d.so")


def test_blobs() -> None:
    assert NpuChoice.parse("blobs:a:b.zip") == NpuChoice(Path("a:b.zip"))
    choice = NpuChoice.parse("blobs:/x/sm8650.zip+delegate:libd.so?a=b=c")
    assert choice == NpuChoice(Path("/x/sm8650.zip"), ExternalDelegate("libd.so", (("a", "b=c"),)))
    assert choice.name == "blobs sm8650.zip through libd.so"
    assert NpuChoice.parse("blobs:x.zip").name == "blobs x.zip through no delegate"
    assert not NpuChoice.parse("blobs:x.zip").on_host


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "wanted host, delegate:PATH"),
        ("npu", "wanted host, delegate:PATH"),
        ("Host", "wanted host, delegate:PATH"),
        ("host:", "wanted host, delegate:PATH"),
        ("qnn:lib.so", "wanted host, delegate:PATH"),
        ("delegate:", "wanted the path of a delegate's library"),
        ("delegate:?a=b", "wanted the path of a delegate's library"),
        ("delegate:a\0b.so", "wanted the path of a delegate's library"),
        ("delegate:l.so?", "option '': wanted key=value"),
        ("delegate:l.so?a=1&", "option '': wanted key=value"),
        ("delegate:l.so?a", "option 'a': wanted key=value"),
        ("delegate:l.so?=a", "option '=a': wanted key=value"),
        ("delegate:l.so?a=1&a=2", "option 'a' is given twice"),
        ("delegate:l.so?a=50%", "write %25 for a % itself"),
        ("delegate:l.so?a=%4x", "write %25 for a % itself"),
        ("delegate:l.so?a=%FF", "wanted UTF-8"),
        ("delegate:l.so?a=\udcff", "wanted UTF-8"),
        ("delegate:l.so?a=%00", "cannot hold a NUL byte"),
        ("blobs:", "the file is missing"),
        ("blobs:+delegate:l.so", "the file is missing"),
        ("blobs:a\0.zip", "a NUL byte"),
        ("blobs:a.zip?a=b", "options belong to a delegate: write blobs:FILE"),
        ("blobs:a.zip+delegate:", "wanted the path of a delegate's library"),
    ],
)
def test_refusals_say_what_was_wanted(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        NpuChoice.parse(text)
    str(caught.value).encode()  # can be printed


def test_the_host_is_no_npu() -> None:
    with pytest.raises(ValueError, match="require_npu needs an NPU, the host is none; give --npu=delegate:PATH"):
        NpuChoice.parse("host", require_npu=True)
