"""What a KV cache is told when it is made, checked against the bundle: mode, keep_ratio and their kin."""

import dataclasses
import numbers
from typing import Any

from shadowattn.models.bundle import Manifest
from shadowattn.runtime.session.modes import AUTO, MODES

CACHE_TYPES = ("f16", "f32")
IN_USE = (
    "mode",
    "keep_ratio",
    "threshold",
    "max_skipped_mass",
    "compensate",
    "min_k",
    "sinks",
    "latest",
)  # may change once rows are stored


@dataclasses.dataclass(frozen=True)
class CacheSettings:
    """The *cache* options of docs/op_spec.md. Raises ValueError for a value that no cache can have.

    keep_ratio: a share in (0, 1], or "auto". threshold: of mode shadow, a probability before keep_ratio; 0 for none.
    max_skipped_mass: of mode shadow, share of a row's mass that may lie on pages it does not score; 0 scores all.
    """

    mode: str
    keep_ratio: float | str
    max_length: int
    min_k: int
    sinks: int
    latest: int
    threshold: float
    max_skipped_mass: float
    compensate: bool
    cache_type: str

    def __post_init__(self) -> None:
        _one_of("mode", self.mode, MODES)
        _one_of("cache_type", self.cache_type, CACHE_TYPES)
        for name in ("keep_ratio", "threshold", "max_skipped_mass"):
            if _is(numbers.Real, getattr(self, name)):  # of NumPy too
                object.__setattr__(self, name, float(getattr(self, name)))
        if self.keep_ratio != AUTO and not (isinstance(self.keep_ratio, float) and 0 < self.keep_ratio <= 1):
            raise ValueError(f"keep_ratio must be auto or in (0, 1], got {self.keep_ratio!r}; 1.0 is dense attention")
        if not (isinstance(self.threshold, float) and 0 <= self.threshold < 1):
            raise ValueError(f"threshold must be a probability in [0, 1), got {self.threshold!r}; 0 switches it off")
        if not (isinstance(self.max_skipped_mass, float) and 0 <= self.max_skipped_mass < 1):
            raise ValueError(
                f"max_skipped_mass must be a share in [0, 1), got {self.max_skipped_mass!r}; 0 scores every page"
            )
        if not isinstance(self.compensate, bool):
            raise ValueError(f"compensate must be True or False, got {self.compensate!r}")
        for name, least in (("max_length", 1), ("min_k", 1), ("sinks", 0), ("latest", 0)):
            value = getattr(self, name)
            if not _is(numbers.Integral, value) or not least <= value < 2**31:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
            object.__setattr__(self, name, int(value))

    def creation_text(self) -> str:
        """For shadow_cache_create."""
        return f"cache_type={self.cache_type};max_length={self.max_length};{self.in_use_text()}"

    def in_use_text(self) -> str:
        """For shadow_cache_configure: what may change once rows are stored."""
        return (
            f"mode={self.mode};keep_ratio={self.keep_ratio};threshold={self.threshold!r};"
            f"max_skipped_mass={self.max_skipped_mass!r};compensate={'on' if self.compensate else 'off'};"
            f"min_k={self.min_k};sinks={self.sinks};latest={self.latest}"
        )

    def reads_scores(self, length: int) -> bool:
        """Whether a row of `length` positions leaves any out by the estimate graph's scores."""
        if self.mode not in ("shadow", "shadow_paper") or length <= self.min_k:
            return False
        return self.threshold > 0 or self.keep_ratio == AUTO or float(self.keep_ratio) < 1

    def changed(self, **changes: Any) -> "CacheSettings":
        """A copy with the changes that are not None."""
        return dataclasses.replace(self, **{key: value for key, value in changes.items() if value is not None})


def parse_settings(text: str) -> CacheSettings:
    """Settings from the library's "key=value;key=value" (shadow_cache_defaults). Raises ValueError."""
    given = dict(item.split("=", 1) for item in text.split(";"))
    try:
        return CacheSettings(
            mode=given["mode"],
            keep_ratio=AUTO if given["keep_ratio"] == AUTO else float(given["keep_ratio"]),
            compensate={"on": True, "off": False}[given["compensate"]],
            cache_type=given["cache_type"],
            threshold=float(given["threshold"]),
            max_skipped_mass=float(given["max_skipped_mass"]),
            max_length=int(given["max_length"]),
            min_k=int(given["min_k"]),
            sinks=int(given["sinks"]),
            latest=int(given["latest"]),
        )
    except KeyError as error:
        raise ValueError(f"the delegate's default settings {text!r} lack {error}; reinstall shadowattn") from None


def settings_for(manifest: Manifest, defaults: CacheSettings, max_length: int | None, **changes: Any) -> CacheSettings:
    """The delegate's and the bundle's defaults with what the caller asked for (None: as it is). Raises ValueError."""
    if max_length is not None and isinstance(max_length, int) and max_length > manifest.max_length:
        raise ValueError(
            f"max_length must be at most the bundle's {manifest.max_length}, got {max_length}; "
            "convert the model with a larger --max_length"
        )
    length = manifest.max_length if max_length is None else max_length
    return defaults.changed(max_length=length, keep_ratio=manifest.keep_ratio).changed(**changes)


def _is(kind: type, value: object) -> bool:
    """True and False are no numbers here."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
