"""Who is to run the estimate graphs, as given by --npu.

    host                                     LiteRT's own INT8 kernels on the CPU ("host INT8")
    delegate:PATH[?KEY=VALUE[&KEY=VALUE...]] an external delegate, with its options
    blobs:FILE[+delegate:PATH[?...]]         the graphs of FILE, a zip like a bundle's estimates.zip whose graphs were
                                             compiled ahead of time, and the delegate that dispatches them

PATH ends at the first `?`, FILE at the first `+delegate:`; both are taken as they are. Keys and values are passed to
the delegate as text once `%XX` is decoded: write %26 for &, %3D for =, %25 for %.
"""

import dataclasses
import os
import re
import urllib.parse
from pathlib import Path

_WANTED = "wanted host, delegate:PATH?key=value&key2=value2, or blobs:FILE with +delegate:PATH?... where it needs one"
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclasses.dataclass(frozen=True)
class ExternalDelegate:
    """library: a path, or a name without a slash that the system's loader finds. options: (key, value), decoded."""

    library: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return Path(self.library).name


@dataclasses.dataclass(frozen=True)
class NpuChoice:
    """blobs: a zip instead of the bundle's. delegate: None means host INT8. require: any node left to the host is an
    error, not a warning."""

    blobs: Path | None = None
    delegate: ExternalDelegate | None = None
    require: bool = False

    @classmethod
    def parse(cls, text: str, require_npu: bool = False) -> "NpuChoice":
        """The grammar is the module's. Raises ValueError that says what was wanted."""
        kind, _, rest = text.partition(":")
        if text == "host":
            if require_npu:
                raise ValueError("--npu=host: require_npu needs an NPU, the host is none; give --npu=delegate:PATH")
            return cls()
        if kind == "delegate":
            return cls(None, _delegate(text, rest), require_npu)
        if kind == "blobs":
            file, plus, delegate = rest.partition("+delegate:")
            _check_blobs(text, file)
            return cls(Path(file), _delegate(text, delegate) if plus else None, require_npu)
        raise ValueError(f"--npu={text}: {_WANTED}")

    @property
    def on_host(self) -> bool:
        """Whether host INT8 is what was asked for."""
        return self.delegate is None and self.blobs is None

    @property
    def name(self) -> str:
        """For tables: host INT8, delegate libQnn.so, blobs sm8650.zip through libQnn.so."""
        if self.blobs is None:
            return "host INT8" if self.delegate is None else f"delegate {self.delegate.name}"
        through = "no delegate" if self.delegate is None else self.delegate.name
        return f"blobs {self.blobs.name} through {through}"


def _check_blobs(text: str, file: str) -> None:
    if not file:
        raise ValueError(f"--npu={text}: the file is missing; {_WANTED}")
    if "\0" in file:
        raise ValueError(f"--npu={text!a}: a NUL byte in the file's path; {_WANTED}")
    if "?" in file and not os.path.exists(file):
        raise ValueError(f"--npu={text}: options belong to a delegate: write blobs:FILE+delegate:PATH?key=value")


def _delegate(text: str, rest: str) -> ExternalDelegate:
    library, question, query = rest.partition("?")
    if not library or "\0" in library:
        raise ValueError(f"--npu={text!r}: wanted the path of a delegate's library after delegate:, got {library!r}")
    options: dict[str, str] = {}
    for pair in query.split("&") if question else ():
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise ValueError(f"--npu={text}: option {pair!r}: wanted key=value, several joined by &")
        key = _decode(text, key)
        if key in options:
            raise ValueError(f"--npu={text}: option {key!r} is given twice; give it once")
        options[key] = _decode(text, value)
    return ExternalDelegate(library, tuple(options.items()))


def _decode(text: str, part: str) -> str:
    """`%XX` decoded. The delegate gets a C string: UTF-8 without NUL."""
    if _BAD_PERCENT.search(part):
        raise ValueError(f"--npu={text}: {part!r}: wanted two hexadecimal digits after %; write %25 for a % itself")
    try:
        decoded = urllib.parse.unquote_to_bytes(part).decode("utf-8")
    except UnicodeError:
        raise ValueError(f"--npu={text!a}: {part!a}: wanted UTF-8; check the encoding") from None
    if "\0" in decoded:
        raise ValueError(f"--npu={text!a}: {part!r}: an option cannot hold a NUL byte")
    return decoded
