"""A latency profile: what each stage of the pipeline costs on one machine, as a JSON file.

Measured with a bundle, or taken from a publication; `simulated` says which, and `source` where the figures are from.
"""

import dataclasses
import json
import math
from collections.abc import Hashable, Iterable
from pathlib import Path

from shadowattn.models import strict_json
from shadowattn.models.spec import MAX_LENGTH
from shadowattn.runtime.scheduling.interpolation import interpolate

FORMAT = "shadowattn-profile"
VERSION = 2
_WITHOUT_CONDITIONS = 1  # an older version, which does not say how it was measured
SNAPDRAGON_8_GEN_3 = Path(__file__).with_name("snapdragon_8_gen_3.json")  # the paper's launches, no CPU figures
_ADVICE = "run `shadowattn profile` again"


@dataclasses.dataclass(frozen=True)
class BundleIdentity:
    """The bundle that the profile was measured with."""

    name: str
    model_sha256: str


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What a session was opened with while it was measured: its threads, and its attention mode."""

    num_threads: int
    mode: str

    def __str__(self) -> str:
        return f"{self.num_threads} thread{'s' if self.num_threads > 1 else ''} in mode {self.mode}"


@dataclasses.dataclass(frozen=True)
class LaunchTime:
    """Estimate of `heads` fused heads, [chunk,d] x [seq_len,d] each."""

    chunk: int
    seq_len: int
    heads: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class CpuTime:
    """Mean per query head, for a chunk that ends at kv_len positions; group_seconds: of any head group besides;
    handover_seconds: of a layer besides, until both workers are under way."""

    chunk: int
    kv_len: int
    select_seconds: float
    attend_seconds: float
    group_seconds: float
    handover_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class LinearTime:
    """Mean per layer of everything but attention."""

    chunk: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class AppendTime:
    """Mean per layer of writing the chunk's keys and values to the cache."""

    chunk: int
    kv_len: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class LatencyProfile:
    """machine, npu, source: for people. bundle, conditions: what was measured, and how; None only for published
    figures, which are simulated and of the NPU alone. Raises ValueError for figures that mean nothing."""

    machine: str
    npu: str
    simulated: bool
    source: str
    launch: tuple[LaunchTime, ...]
    cpu: tuple[CpuTime, ...]
    linear: tuple[LinearTime, ...]
    append: tuple[AppendTime, ...]
    bundle: BundleIdentity | None = None
    conditions: Conditions | None = None

    def __post_init__(self) -> None:
        for name in ("launch", "cpu", "linear", "append"):
            for entry in getattr(self, name):
                _need_positive(name, entry)
        _need_unique("launch", ((time.chunk, time.seq_len, time.heads) for time in self.launch))
        _need_unique("cpu", ((time.chunk, time.kv_len) for time in self.cpu))
        _need_unique("linear", (time.chunk for time in self.linear))
        _need_unique("append", ((time.chunk, time.kv_len) for time in self.append))
        if self.bundle is None and not (self.simulated and not (self.cpu or self.linear or self.append)):
            raise ValueError("bundle is missing: only simulated figures of an NPU alone belong to no bundle")
        if (self.conditions is None) != (self.bundle is None):
            missing = "bundle" if self.bundle is None else "conditions"
            raise ValueError(f"wanted bundle and conditions (num_threads, mode) together, {missing} is missing")
        if self.conditions is not None and self.conditions.num_threads < 1:
            raise ValueError(f"conditions: num_threads must be at least 1, got {self.conditions.num_threads}")

    def launch_seconds(self, chunk: int, seq_len: int) -> dict[int, float]:
        """Number of heads -> seconds of their launch: as profiled for that seq_len, else `interpolate`d between the
        ones that are. Raises ValueError for a chunk that was not profiled."""
        own = [time for time in self.launch if time.chunk == chunk]
        _need_chunk("launches", chunk, own, self.launch)
        counts = sorted({time.heads for time in own})
        known = {heads: {time.seq_len: time.seconds for time in own if time.heads == heads} for heads in counts}
        return {heads: interpolate(points, seq_len) for heads, points in known.items()}

    def cpu_seconds(self, chunk: int, kv_len: int) -> CpuTime:
        """At that length; otherwise as launch_seconds."""
        own = [time for time in self.cpu if time.chunk == chunk]
        _need_chunk("CPU figures", chunk, own, self.cpu)
        fields = ("select_seconds", "attend_seconds", "group_seconds")
        found = {name: interpolate({time.kv_len: getattr(time, name) for time in own}, kv_len) for name in fields}
        handovers = {time.kv_len: time.handover_seconds for time in own}
        inside = min(max(kv_len, min(handovers)), max(handovers))  # it does not grow with the cache
        return CpuTime(chunk, kv_len, **found, handover_seconds=interpolate(handovers, inside))

    def linear_seconds(self, chunk: int) -> float:
        """Of one layer. Raises ValueError for a chunk that was not profiled."""
        own = [time for time in self.linear if time.chunk == chunk]
        _need_chunk("linear figures", chunk, own, self.linear)
        return own[0].seconds

    def append_seconds(self, chunk: int, kv_len: int) -> float:
        """Of one layer; otherwise as launch_seconds."""
        own = [time for time in self.append if time.chunk == chunk]
        _need_chunk("append figures", chunk, own, self.append)
        return interpolate({time.kv_len: time.seconds for time in own}, kv_len)

    def for_chunk(self, chunk: int) -> "LatencyProfile":
        """The same where it has CPU figures for chunks of that many rows; else those of its longest chunk in proportion
        to the rows, which the source then says."""
        known = {time.chunk for time in self.cpu}
        if chunk in known or not known:
            return self
        longest = max(known)
        share = chunk / longest
        cpu = (
            dataclasses.replace(
                time,
                chunk=chunk,
                select_seconds=time.select_seconds * share,
                attend_seconds=time.attend_seconds * share,
                group_seconds=time.group_seconds * share,
            )
            for time in self.cpu
            if time.chunk == longest
        )
        return dataclasses.replace(
            self, source=f"{self.source}, in proportion from {longest} rows to {chunk}", cpu=tuple(cpu)
        )

    def with_cpu_of(self, other: "LatencyProfile") -> "LatencyProfile":
        """These launches with everything that `other` measured outside the NPU: simulated, for other's bundle."""
        if not other.cpu:
            raise ValueError(f"the profile of {other.machine} has no CPU figures; take them from a measured one")
        return dataclasses.replace(
            other,
            machine=f"{self.machine} (NPU) with {other.machine} (CPU)",
            npu=self.npu,
            simulated=True,
            source=f"SIMULATED: launches from {self.source}; CPU from {other.machine}, {other.source}",
            launch=self.launch,
        )

    def check_bundle(self, name: str, model_sha256: str) -> None:
        """Raises ValueError if the profile was measured with another bundle. Published figures fit every one."""
        if self.bundle is not None and self.bundle.model_sha256 != model_sha256:
            raise ValueError(
                f"the profile was measured with bundle {self.bundle.name!r} (SHA-256 of its model "
                f"{self.bundle.model_sha256:.12}), wanted {name!r} ({model_sha256:.12}); {_ADVICE} with this bundle"
            )

    def check_conditions(self, own: Conditions) -> None:
        """Raises ValueError if the profile was measured with other threads or in another mode than a session's own."""
        if self.conditions is not None and self.conditions != own:
            raise ValueError(
                f"the profile was measured with {self.conditions}, the session has {own}; {_ADVICE} with the same "
                "--num_threads and --mode"
            )

    def to_json(self) -> str:
        """The text of a profile file."""
        body = dataclasses.asdict(self)
        if self.bundle is None:
            del body["bundle"], body["conditions"]
        return json.dumps({"format": FORMAT, "version": VERSION, **body}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> "LatencyProfile":
        """Reads and checks a profile. Raises ValueError that names `where` and the field."""
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: not valid JSON ({error}); {_ADVICE}") from None
        if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
            raise ValueError(f"{where}: not a latency profile (wanted format {FORMAT!r})")
        version = raw.pop("version", None)
        if version == _WITHOUT_CONDITIONS and "bundle" in raw:
            raise ValueError(
                f"{where}: version {version} does not say with how many threads and in which mode it was measured, "
                f"wanted version {VERSION}; {_ADVICE}"
            )
        if version not in (VERSION, _WITHOUT_CONDITIONS):
            raise ValueError(f"{where}: version {version!r} is not {VERSION}; update shadowattn or {_ADVICE}")
        try:
            profile: LatencyProfile = strict_json.build(cls, raw, where, _CONTAINERS)
        except ValueError as error:
            raise ValueError(f"{error}; {_ADVICE}") from None
        return profile


def read_profile(path: Path) -> LatencyProfile:
    """Raises ValueError for a file that cannot be read or is no profile."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a latency profile ({error})") from None
    return LatencyProfile.from_json(text, str(path))


def write_profile(profile: LatencyProfile, path: Path) -> None:
    path.write_text(profile.to_json(), "utf-8")


def _need_positive(name: str, entry: LaunchTime | CpuTime | LinearTime | AppendTime) -> None:
    for field, value in dataclasses.asdict(entry).items():
        most = MAX_LENGTH if isinstance(value, int) else math.inf
        if field in ("group_seconds", "handover_seconds") and value == 0:
            continue
        if not 0 < value <= most or value == math.inf:
            raise ValueError(f"{name}: {field} must be positive and finite, got {value!r:.60}")


def _need_unique(name: str, keys: Iterable[Hashable]) -> None:
    seen = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"{name}: two entries for {key}")
        seen.add(key)


_Times = Iterable[LaunchTime] | Iterable[CpuTime] | Iterable[LinearTime] | Iterable[AppendTime]


def _need_chunk(what: str, chunk: int, own: list, every: _Times) -> None:
    if not own:
        there = ", ".join(map(str, sorted({time.chunk for time in every}))) or "none"
        raise ValueError(f"the profile has no {what} for chunks of {chunk} tokens, it has them for: {there}; {_ADVICE}")


_CONTAINERS: strict_json.FieldTypes = {
    (LatencyProfile, "bundle"): BundleIdentity,
    (LatencyProfile, "conditions"): Conditions,
    (LatencyProfile, "launch"): (tuple, LaunchTime),
    (LatencyProfile, "cpu"): (tuple, CpuTime),
    (LatencyProfile, "linear"): (tuple, LinearTime),
    (LatencyProfile, "append"): (tuple, AppendTime),
}
