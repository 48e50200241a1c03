"""Finds libshadow_delegate.so and binds its C ABI (delegate/abi/shadow_abi.h) through ctypes."""

import ctypes
import dataclasses
import importlib.metadata
import os
from pathlib import Path
from typing import Any

import numpy as np

LIBRARY = "libshadow_delegate.so"
ENVIRONMENT = "SHADOWATTN_DELEGATE"
ABI_VERSION = 4


def library_path() -> Path:
    """Where the delegate library is: $SHADOWATTN_DELEGATE, the installed package, or build/delegate of a checkout.

    Raises ValueError that lists the places.
    """
    if chosen := os.environ.get(ENVIRONMENT):
        if not Path(chosen).is_file():
            raise ValueError(f"{ENVIRONMENT}={chosen}: there is no such file; correct or unset the variable")
        return Path(chosen).resolve()
    places = [*_installed(), Path(__file__).resolve().parents[2] / "build" / "delegate" / LIBRARY]
    for place in places:
        if place.is_file():
            return place.resolve()
    raise ValueError(
        f"{LIBRARY} is missing (looked at {', '.join(map(str, places))}); install shadowattn with pip, or build it: "
        f"cmake -S delegate -B build/delegate && cmake --build build/delegate, or set {ENVIRONMENT}"
    )


def _installed() -> list[Path]:
    """Where pip put it, also when this code is a checkout's (build/dev, an editable installation)."""
    try:
        return [Path(str(importlib.metadata.distribution("shadowattn").locate_file(f"shadowattn/delegate/{LIBRARY}")))]
    except importlib.metadata.PackageNotFoundError:
        return []


class _Stats(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        *((name, ctypes.c_int64) for name in ("rows", "causal_rows", "value_rows_read", "k_saturated")),
        *((name, ctypes.c_int64) for name in ("cache_bytes", "length")),
        *((f"seconds_{name}", ctypes.c_double) for name in ("append", "estimate", "select", "attend")),
        *((name, ctypes.c_int64) for name in ("rows_not_compensated", "pages", "pages_scored")),
    ]


@dataclasses.dataclass(frozen=True)
class CacheStats:
    """ShadowStats of one cache (delegate/abi/shadow_abi.h); seconds by stage."""

    rows: int
    causal_rows: int
    value_rows_read: int
    k_saturated: int
    rows_not_compensated: int
    pages: int
    pages_scored: int
    cache_bytes: int
    length: int
    seconds: dict[str, float]


_DELEGATE_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {  # name -> (result, arguments after the delegate)
    "shadow_isa": (ctypes.c_char_p, []),
    "shadow_cache_create": (ctypes.c_int32, [ctypes.c_char_p]),
    "shadow_cache_destroy": (ctypes.c_int32, [ctypes.c_int32]),
    "shadow_cache_configure": (ctypes.c_int32, [ctypes.c_int32, ctypes.c_char_p]),
    "shadow_cache_set_factors": (
        ctypes.c_int32,
        [ctypes.c_int32, ctypes.POINTER(ctypes.c_float), ctypes.c_int64],
    ),
    "shadow_observe": (ctypes.c_int32, [ctypes.c_int32, ctypes.c_int32]),
    "shadow_observed": (
        ctypes.c_int32,
        [ctypes.c_int32, ctypes.c_char_p, ctypes.POINTER(ctypes.c_double), ctypes.c_int64],
    ),
    "shadow_observed_reset": (ctypes.c_int32, [ctypes.c_int32]),
    "shadow_cache_length": (ctypes.c_int64, [ctypes.c_int32]),
    "shadow_cache_rewind": (ctypes.c_int32, [ctypes.c_int32, ctypes.c_int64]),
    "shadow_append": (ctypes.c_int32, [ctypes.c_void_p, ctypes.c_void_p]),
    "shadow_attend": (ctypes.c_int32, [ctypes.c_void_p, ctypes.c_void_p]),
    "shadow_set_signatures": (ctypes.c_int32, [ctypes.c_char_p]),
    "shadow_stats": (ctypes.c_int32, [ctypes.c_int32, ctypes.POINTER(_Stats)]),
    "shadow_stats_reset": (ctypes.c_int32, [ctypes.c_int32]),
    "shadow_num_caches": (ctypes.c_int32, []),
}


class ShadowLibrary:
    """The loaded library: facts that need no delegate. Raises ValueError if it does not load or is another version."""

    def __init__(self, path: Path) -> None:
        self.path = path
        next_step = "build it again for this machine, or reinstall shadowattn"
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise ValueError(f"{path}: cannot be loaded ({error}); {next_step}") from None
        try:
            self._bind()
        except AttributeError as error:
            raise ValueError(f"{path}: is not the delegate of shadowattn ({error}); {next_step}") from None
        if (version := self._library.shadow_abi_version()) != ABI_VERSION:
            raise ValueError(f"{path}: its ABI version is {version}, wanted {ABI_VERSION}; {next_step}")

    def _bind(self) -> None:
        self._library.shadow_abi_version.restype = ctypes.c_int32
        for name in ("shadow_build_info", "shadow_best_isa", "shadow_last_error", "shadow_cache_defaults"):
            getattr(self._library, name).restype = ctypes.c_char_p
        for name, (result, arguments) in _DELEGATE_FUNCTIONS.items():
            function = getattr(self._library, name)
            function.restype = result
            function.argtypes = [ctypes.c_void_p, *arguments]

    @property
    def build_info(self) -> str:
        """Project version, compiler, ISA levels compiled in."""
        return str(self._library.shadow_build_info().decode())

    @property
    def isa_levels(self) -> tuple[str, ...]:
        """The ISA levels compiled in, the slowest first; which of them this machine has is another question."""
        return tuple(self.build_info.partition("isa: ")[2].split())

    @property
    def cache_defaults(self) -> str:
        """The settings of a cache that is told nothing: "key=value;key=value" with every key."""
        return str(self._library.shadow_cache_defaults().decode())

    @property
    def best_isa(self) -> str:
        """The ISA level that `auto` chooses on this machine."""
        return str(self._library.shadow_best_isa().decode())

    def call(self, name: str, *arguments: object) -> int:
        """Calls a function that returns -1 on failure. Raises ValueError with the delegate's message."""
        result = int(getattr(self._library, name)(*arguments))
        if result < 0:
            message = self._library.shadow_last_error()
            raise ValueError(message.decode(errors="replace") if message else f"{name} failed")
        return result

    def isa(self, pointer: int) -> str:
        return str(self._library.shadow_isa(pointer).decode())


class ShadowDelegate:
    """The caches of one delegate. `pointer` is what tflite_plugin_create_delegate returned."""

    def __init__(self, library: ShadowLibrary, pointer: int) -> None:
        self._library = library
        self.pointer = pointer

    @property
    def isa(self) -> str:
        """The ISA level it runs with."""
        return self._library.isa(self.pointer)

    def call(self, name: str, *arguments: object) -> int:
        """A function of the C ABI, with this delegate. Raises ValueError with its message."""
        return self._library.call(name, self.pointer, *arguments)

    @property
    def cache_defaults(self) -> str:
        """See ShadowLibrary.cache_defaults."""
        return self._library.cache_defaults

    @property
    def num_caches(self) -> int:
        return self.call("shadow_num_caches")

    def set_signatures(self, signatures: list[str]) -> None:
        """The signatures that interpreters made from now on can run."""
        self.call("shadow_set_signatures", ",".join(signatures).encode())

    def create_cache(self, options: str) -> int:
        """A handle. Raises ValueError."""
        return self.call("shadow_cache_create", options.encode())

    def destroy_cache(self, cache: int) -> None:
        self.call("shadow_cache_destroy", cache)

    def configure_cache(self, cache: int, options: str) -> None:
        self.call("shadow_cache_configure", cache, options.encode())

    def set_factors(self, cache: int, factors: np.ndarray | None) -> None:
        """Factors [L,H] of the heads' thresholds instead of the plan's; None restores the plan's. A head of factor 0
        selects all positions, one of inf is ablated. Raises ValueError."""
        values = np.ascontiguousarray([] if factors is None else factors, np.float32)
        pointer = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        self.call("shadow_cache_set_factors", cache, pointer, values.size)

    def observe(self, cache: int, what: int) -> None:
        """Starts observing with empty tables; what: a sum of the flags of shadow_observe, 0 to end it."""
        self.call("shadow_observe", cache, what)

    def observed(self, cache: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A table of docs/op_spec.md (observers), float64. Raises ValueError."""
        values = np.zeros(shape, np.float64)
        pointer = values.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
        self.call("shadow_observed", cache, name.encode(), pointer, values.size)
        return values

    def reset_observed(self, cache: int) -> None:
        self.call("shadow_observed_reset", cache)

    def cache_length(self, cache: int) -> int:
        """Committed rows."""
        return self.call("shadow_cache_length", cache)

    def rewind_cache(self, cache: int, length: int) -> None:
        """Drops every row from `length` on, and whatever was not committed."""
        self.call("shadow_cache_rewind", cache, length)

    def cache_stats(self, cache: int) -> CacheStats:
        raw = _Stats(struct_size=ctypes.sizeof(_Stats))
        self.call("shadow_stats", cache, ctypes.byref(raw))
        seconds = {name: getattr(raw, f"seconds_{name}") for name in ("append", "estimate", "select", "attend")}
        counts = {
            field.name: int(getattr(raw, field.name))
            for field in dataclasses.fields(CacheStats)
            if field.name != "seconds"
        }
        return CacheStats(**counts, seconds=seconds)

    def reset_cache_stats(self, cache: int) -> None:
        self.call("shadow_stats_reset", cache)
