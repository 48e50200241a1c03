"""The machine's own ceilings: how fast the best library at hand multiplies large matrices, in float32 and in INT8."""

import dataclasses
import importlib
import time
from collections.abc import Callable
from typing import Any

_RUNS = 7


@dataclasses.dataclass(frozen=True)
class Peaks:
    """float32 GFLOP/s and INT8 GOP/s of an n x n x n product; None and a reason in `skipped` where unknown."""

    float32: float | None
    int8: float | None
    skipped: dict[str, str]


def measure_peaks(n: int) -> Peaks:
    """In the threads torch was told to use."""
    found: dict[str, float | None] = {"float32": None, "int8": None}
    skipped = {}
    for name, make in (("float32", _float32), ("int8", _int8)):
        try:
            found[name] = _rate(make(n), n)
        except (ImportError, AttributeError, RuntimeError) as error:
            skipped[f"{name} GEMM peak"] = f"torch cannot ({' '.join(str(error).split())[:120]})"
    return Peaks(found["float32"], found["int8"], skipped)


def higher(one: Peaks, other: Peaks) -> Peaks:
    """Of two measurements, one before and one after the rest: whoever else uses the machine only lowers them."""
    rates = []
    for name in ("float32", "int8"):
        known = [rate for peaks in (one, other) if (rate := getattr(peaks, name)) is not None]
        rates.append(max(known, default=None))
    return Peaks(rates[0], rates[1], one.skipped | other.skipped)


def _rate(multiply: Callable[[], Any], n: int) -> float:
    """Billions of operations (a product and a sum are two) per second, in the best run: a ceiling."""
    multiply()
    seconds = []
    for _ in range(_RUNS):
        begin = time.perf_counter()
        multiply()
        seconds.append(time.perf_counter() - begin)
    return 2 * n**3 / min(seconds) / 1e9


def _float32(n: int) -> Callable[[], Any]:
    torch = importlib.import_module("torch")
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, n, generator=generator) for _ in range(2))
    return lambda: a @ b


def _int8(n: int) -> Callable[[], Any]:
    torch = importlib.import_module("torch")
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-127, 128, (n, n), dtype=torch.int8, generator=generator) for _ in range(2))
    return lambda: torch._int_mm(a, b)
