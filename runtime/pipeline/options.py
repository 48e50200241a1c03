"""What a session of the pipelined executor is told beside its cache settings, and who is to run the estimate graphs.

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

from shadowattn.runtime.pipeline.profile import LatencyProfile
from shadowattn.runtime.pipeline.schedule import PLANNERS
from shadowattn.runtime.pipeline.stages import Scales

OFF = "off"  # in a planner's place: one stage after the other
AUTO = "auto"
SCALES = tuple(scales.name.lower() for scales in Scales)
_WANTED = "wanted host, delegate:PATH?key=value&key2=value2, or blobs:FILE with +delegate:PATH?... where it needs one"
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclasses.dataclass(frozen=True)
class ExternalDelegate:
    """library: a path, or a name without a slash that the system's loader finds. options: (key, value), decoded."""

    library: str
    options: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class NpuChoice:
    """Who runs the estimate graphs. blobs: a zip instead of the bundle's. delegate: None means host INT8. require: any
    node left to the host is an error, not a warning."""

    blobs: Path | None = None
    delegate: ExternalDelegate | None = None
    require: bool = False

    @classmethod
    def parse(cls, text: str, require_npu: bool = False) -> "NpuChoice":
        """The grammar is the module's. Raises ValueError that says what was wanted."""
        kind, _, rest = text.partition(":")
        if text == "host":
            if require_npu:
                raise ValueError("--npu=host: require_npu needs an NPU, and the host is not one; give a delegate:PATH")
            return cls()
        if kind == "delegate":
            return cls(None, _delegate(text, rest), require_npu)
        if kind == "blobs":
            file, plus, delegate = rest.partition("+delegate:")
            if not file or "\0" in file:
                raise ValueError(f"--npu={text!a}: the file is missing, or its path holds a NUL byte; {_WANTED}")
            if "?" in file and not os.path.exists(file):
                raise ValueError(f"--npu={text}: options belong to a delegate: blobs:FILE+delegate:PATH?key=value")
            return cls(Path(file), _delegate(text, delegate) if plus else None, require_npu)
        raise ValueError(f"--npu={text}: {_WANTED}")

    @property
    def on_host(self) -> bool:
        """Whether host INT8 is what was asked for."""
        return self.delegate is None and self.blobs is None

    @property
    def advice(self) -> str:
        """What to do about a graph that is not as it should be."""
        return "convert the model again" if self.blobs is None else "compile the bundle's estimates.zip again"

    @property
    def name(self) -> str:
        """For tables: host INT8, delegate libQnn.so, blobs sm8650.zip through libQnn.so."""
        through = "" if self.delegate is None else Path(self.delegate.library).name
        if self.blobs is None:
            return f"delegate {through}" if through else "host INT8"
        return f"blobs {self.blobs.name} through {through or 'no delegate'}"


@dataclasses.dataclass(frozen=True)
class PipelineOptions:
    """npu: who runs the estimate graphs. scales: auto (the grid's nearest in mode shadow_paper where the bundle has a
    grid, else rank) or one of SCALES. planner: one of PLANNERS, or off. heads: numbers of heads that a launch may have;
    None: all that the bundle has. profile: latencies to plan with; None: every head costs the same. Raises
    ValueError."""

    npu: NpuChoice = dataclasses.field(default_factory=NpuChoice)
    scales: str = AUTO
    planner: str = "best"
    heads: tuple[int, ...] | None = None
    profile: LatencyProfile | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("scales", (AUTO, *SCALES)), ("planner", (*PLANNERS, OFF))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if self.heads is not None and not (self.heads and all(type(few) is int and few > 0 for few in self.heads)):
            raise ValueError(f"heads must be numbers of heads of a launch, at least 1, got {self.heads!r}")

    def scales_for(self, mode: str, has_grid: bool) -> Scales:
        """Those of a mode in a bundle. Raises ValueError for a grid that the bundle lacks."""
        if self.scales == AUTO:
            return Scales.NEAREST if mode == "shadow_paper" and has_grid else Scales.RANK
        if self.scales != "rank" and not has_grid:
            advice = "convert again with --grid_multipliers"
            raise ValueError(f"scales={self.scales}: the bundle has no scale grid; {advice}")
        return Scales[self.scales.upper()]


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
