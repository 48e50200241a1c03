"""A latency profile: what the stages of the pipeline cost on this machine with one bundle, as a JSON file beside it."""

import dataclasses
import json
import sys
import warnings
from pathlib import Path

import numpy as np

from shadowattn.models import strict_json
from shadowattn.models.bundle import MODEL, Manifest
from shadowattn.models.spec import MAX_LENGTH
from shadowattn.runtime.pipeline.schedule import Work

FORMAT = "shadowattn-profile"
VERSION = 4
_ADVICE = "run `shadowattn profile` again"


@dataclasses.dataclass(frozen=True)
class LaunchTime:
    """A head group of so many heads in a chunk that ends at kv_len positions, bucket length seq_len. attend_seconds: of
    selecting and attending; overhead_seconds: of the group besides, until both workers are under way."""

    seq_len: int
    kv_len: int
    heads: int
    estimate_seconds: float
    attend_seconds: float
    overhead_seconds: float

    @property
    def work(self) -> Work:
        """The overhead counts for the stage that the others wait for."""
        if self.estimate_seconds > self.attend_seconds:
            return self.estimate_seconds + self.overhead_seconds, self.attend_seconds
        return self.estimate_seconds, self.attend_seconds + self.overhead_seconds


@dataclasses.dataclass(frozen=True)
class LatencyProfile:
    """machine, source: for people. npu: who ran the estimates; bundle, model_sha256: what was measured; num_threads,
    mode: how; chunk: rows of the chunks. Raises ValueError for figures that mean nothing."""

    machine: str
    source: str
    npu: str
    bundle: str
    model_sha256: str
    num_threads: int
    mode: str
    chunk: int
    launch: tuple[LaunchTime, ...]

    def __post_init__(self) -> None:
        if not self.launch:
            raise ValueError("launch is empty: wanted at least one entry")
        for name, entry in (("profile", self), *(("launch", time) for time in self.launch)):
            for field, value in vars(entry).items():
                most = MAX_LENGTH if isinstance(value, int) else sys.float_info.max
                if isinstance(value, int | float) and not (0 <= value <= most and (value or "overhead" in field)):
                    raise ValueError(f"{name}: {field} must be positive and finite, got {value!r:.60}")

    def costs(self, seq_len: int, kv_len: int) -> dict[int, Work]:
        """By number of heads: as profiled for these lengths, or on the straight line between the two neighbours; beyond
        either end in proportion to the length, since every stage reads all keys once."""
        found = {}
        for heads in sorted({time.heads for time in self.launch}):
            own = [time for time in self.launch if time.heads == heads]
            estimates = {time.seq_len: time.work[0] for time in own}
            found[heads] = interpolate(estimates, seq_len), interpolate({t.kv_len: t.work[1] for t in own}, kv_len)
        return found

    def check(self, manifest: Manifest, npu: str, num_threads: int, mode: str) -> None:
        """Raises ValueError if it was measured with another bundle, or otherwise than a session runs."""
        sha256 = manifest.files[MODEL].sha256
        if self.model_sha256 != sha256:
            own = f"bundle {self.bundle!r} (SHA-256 of its model {self.model_sha256:.12})"
            wanted = f"{manifest.name!r} ({sha256:.12})"
            raise ValueError(f"it was measured with {own}, wanted {wanted}; {_ADVICE} with this bundle")
        facts = (self.npu, self.num_threads, self.mode), (npu, num_threads, mode)
        if facts[0] != facts[1]:
            own, wanted = ("{}, num_threads {}, mode {}".format(*some) for some in facts)
            flags = "with the session's --npu, --num_threads and --mode"
            raise ValueError(f"it was measured with {own}, the session has {wanted}; {_ADVICE} {flags}")

    def to_json(self) -> str:
        """The text of a profile file."""
        return json.dumps({"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}, indent=1) + "\n"


def interpolate(points: dict[int, float], length: int) -> float:
    """points: length -> seconds, at least one."""
    nearest = min(max(length, min(points)), max(points))
    lengths = sorted(points)
    return float(np.interp(nearest, lengths, [points[known] for known in lengths])) * length / nearest


def default_path(bundle: Path) -> Path:
    """Beside the bundle, since it belongs to this machine and not to the bundle."""
    folder = bundle.absolute()
    return folder.parent / f"{folder.name}.profile.json"


def read_profile(path: Path) -> LatencyProfile:
    """Raises ValueError, which names the field, for a file that cannot be read or is not a profile."""
    try:
        raw = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as a latency profile ({error}); {_ADVICE}") from None
    if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
        raise ValueError(f"{path}: not a latency profile (wanted format {FORMAT!r}); {_ADVICE}")
    if (version := raw.pop("version", None)) != VERSION:
        raise ValueError(f"{path}: profile version {version!r}, wanted {VERSION}; {_ADVICE}")
    try:
        containers: strict_json.FieldTypes = {(LatencyProfile, "launch"): (tuple, LaunchTime)}
        profile: LatencyProfile = strict_json.build(LatencyProfile, raw, str(path), containers)
    except ValueError as error:
        raise ValueError(f"{error}; {_ADVICE}") from None
    return profile


def find_profile(
    bundle: Path, manifest: Manifest, npu: str, num_threads: int, mode: str, asked: Path | None
) -> LatencyProfile | None:
    """The profile asked for, or else the one beside the bundle; None without one. Raises ValueError for one asked
    for that cannot be read or does not fit; one that merely lies there is left aside then, with a warning."""
    path = asked or default_path(bundle)
    if asked is None and not path.exists():
        return None
    try:
        profile = read_profile(path)
        profile.check(manifest, npu, num_threads, mode)
        return profile
    except ValueError as error:
        reason = str(error).removeprefix(f"{path}: ")
        if asked is not None:
            raise ValueError(f"{path}: {reason}") from None
        warnings.warn(f"{path} is not used: {reason}", RuntimeWarning, stacklevel=2)
    return None
