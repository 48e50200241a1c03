"""What a KV cache is told when it is made, checked against the bundle: mode, keep_ratio and their kin."""

import dataclasses
import numbers
from typing import Any

from shadowattn.models.bundle import Manifest
from shadowattn.models.reference import SelectRule

MODES = ("shadow", "dense")
CACHE_TYPES = ("f16", "f32")
_RULE = SelectRule()


@dataclasses.dataclass(frozen=True)
class CacheSettings:
    """The *cache* options of docs/op_spec.md. Raises ValueError for a value that no cache can have."""

    mode: str
    keep_ratio: float
    max_length: int
    min_k: int = _RULE.min_k
    sinks: int = _RULE.sinks
    latest: int = _RULE.latest
    cache_type: str = "f16"

    def __post_init__(self) -> None:
        _one_of("mode", self.mode, MODES)
        _one_of("cache_type", self.cache_type, CACHE_TYPES)
        if _is(numbers.Real, self.keep_ratio):  # of NumPy too
            object.__setattr__(self, "keep_ratio", float(self.keep_ratio))
        if not (isinstance(self.keep_ratio, float) and 0 < self.keep_ratio <= 1):
            raise ValueError(f"keep_ratio must be in (0, 1], got {self.keep_ratio!r}; 1.0 is dense attention")
        for name, least in (("max_length", 1), ("min_k", 1), ("sinks", 0), ("latest", 0)):
            value = getattr(self, name)
            if not _is(numbers.Integral, value) or not least <= value < 2**31:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
            object.__setattr__(self, name, int(value))

    def creation_text(self) -> str:
        """For shadow_cache_create."""
        return f"cache_type={self.cache_type};max_length={self.max_length};{self.living_text()}"

    def living_text(self) -> str:
        """For shadow_cache_configure: what may change once rows are stored."""
        return (
            f"mode={self.mode};keep_ratio={self.keep_ratio!r};min_k={self.min_k};"
            f"sinks={self.sinks};latest={self.latest}"
        )

    def ranks(self, length: int) -> bool:
        """Whether a row that sees `length` positions leaves any out, so that scores are needed."""
        return self.mode != "dense" and self.k(length) < length

    def k(self, length: int) -> int:
        """How many of `length` causal positions a row keeps."""
        return SelectRule(self.keep_ratio, self.min_k, self.sinks, self.latest).k(length)

    def changed(self, **changes: Any) -> "CacheSettings":
        """A copy with the changes that are not None."""
        return dataclasses.replace(self, **{key: value for key, value in changes.items() if value is not None})


def settings_for(manifest: Manifest, max_length: int | None, **changes: Any) -> CacheSettings:
    """The bundle's defaults with what the caller asked for (None: the default). Raises ValueError."""
    if max_length is not None and isinstance(max_length, int) and max_length > manifest.max_length:
        raise ValueError(
            f"max_length must be at most the bundle's {manifest.max_length}, got {max_length}; "
            "convert the model with a larger --max_length"
        )
    length = manifest.max_length if max_length is None else max_length
    return CacheSettings("shadow", manifest.keep_ratio, length).changed(**changes)


def _is(kind: type, value: object) -> bool:
    """True and False are no numbers here."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
