"""What an evaluation is asked for, checked before anything is opened."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from shadowattn.runtime.session.modes import AUTO, MODES

TASKS = ("perplexity", "needle", "greedy", "heads", "estimate")
UNCOMPENSATED = "uncompensated"
_WITHOUT_KEEP_RATIO = ("dense", "int8", "npu_full")
_USUAL_MODES = ("dense", "int8", "shadow")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to attend: a row of every table. keep_ratio: a number, "auto", or None where the mode has none."""

    mode: str
    keep_ratio: float | str | None
    compensate: bool | None = None

    @property
    def label(self) -> str:
        """The mode as it was asked for."""
        return f"{self.mode}:{UNCOMPENSATED}" if self.compensate is False else self.mode

    @property
    def name(self) -> str:
        """For people: mode and keep_ratio."""
        return self.label if self.keep_ratio is None else f"{self.label} {self.keep_ratio}"

    def session_options(self) -> dict[str, Any]:
        """What Session.open() is told."""
        compensate = {} if self.compensate is None else {"compensate": self.compensate}
        return {"mode": self.mode, "keep_ratio": self.keep_ratio} | compensate


DENSE = Variant("dense", None)  # what every other one is compared with
MODEL = Variant("float model", None)  # what perplexity is compared with instead, where `reference` names it


@dataclasses.dataclass(frozen=True)
class EvalOptions:
    """The flags of `shadowattn eval`. Raises ValueError that names the flag.

    modes: names, each with its own keep_ratio behind "@" or with all of keep_ratios (auto: for shadow alone).

    texts: files, none for the default text. window, stride: None for 2,048 (or what fits), and for the window.
    needle_lengths: None for those of 1000,2000,4000,8000 that fit.
    reference: the float model that the bundle came from, which perplexity is compared with instead of dense.
    session: further arguments of Session.open().
    """

    modes: tuple[str, ...] = tuple(mode for mode in _USUAL_MODES if mode in MODES)
    keep_ratios: tuple[float | str, ...] = (AUTO, 0.1, 0.05, 0.02)
    tasks: tuple[str, ...] = ("perplexity",)
    texts: tuple[str, ...] = ()
    window: int | None = None
    stride: int | None = None
    reference: str | None = None
    max_tokens: int = 8192
    skip_tokens: int = 0
    needle_lengths: tuple[int, ...] | None = None
    needle_depths: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    needles: int = 4
    prompts: int = 20
    prompt_tokens: int = 2000
    continue_tokens: int = 64
    seed: int = 1
    session: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _some("tasks", self.tasks)
        for task in self.tasks:
            _one_of("tasks", task, TASKS)
        _some("modes", self.modes)
        for mode in self.modes:
            _parse_mode(mode)
        _some("keep_ratios", self.keep_ratios)
        for ratio in self.keep_ratios:
            if ratio != AUTO and not (isinstance(ratio, float) and 0 < ratio <= 1):
                raise ValueError(f"--keep_ratios: wanted numbers in (0, 1] or {AUTO}, got {ratio!r}")
        self._check_windows()
        self._check_needles()
        for name in ("needles", "prompts", "prompt_tokens", "continue_tokens"):
            _at_least(name, getattr(self, name), 1)

    def _check_windows(self) -> None:
        if self.window is not None:
            _at_least("window", self.window, 2)
        if self.stride is not None:
            _at_least("stride", self.stride, 1)
            if self.window is None or self.stride > self.window:
                raise ValueError(
                    f"--stride: wanted at most --window (else tokens are left out), got {self.stride} with a window of "
                    f"{self.window or 'no stated length'}; give both"
                )
        _at_least("max_tokens", self.max_tokens, 2)
        _at_least("skip_tokens", self.skip_tokens, 0)
        if self.window is not None and self.max_tokens < self.window:
            raise ValueError(f"--max_tokens: wanted at least one --window of {self.window}, got {self.max_tokens}")

    def _check_needles(self) -> None:
        if self.needle_lengths is not None:
            _some("needle_lengths", self.needle_lengths)
            _at_least("needle_lengths", min(self.needle_lengths), 1)
        _some("needle_depths", self.needle_depths)
        for depth in self.needle_depths:
            if not 0 <= depth <= 1:
                raise ValueError(f"--needle_depths: wanted numbers from 0 to 1, got {depth}")

    def variants(self) -> tuple[Variant, ...]:
        """Every (mode, keep_ratio), dense first whether it was asked for or not."""
        return tuple(dict.fromkeys([DENSE, *self._asked()]))

    def _asked(self) -> Iterator[Variant]:
        for text in self.modes:
            mode, compensate, own_ratio = _parse_mode(text)
            for ratio in self._ratios(mode, own_ratio):
                yield Variant(mode, ratio, compensate)

    def _ratios(self, mode: str, own: float | str | None) -> tuple[float | str | None, ...]:
        if mode in _WITHOUT_KEEP_RATIO:
            return (None,)
        if own is not None:
            return (own,)
        # Other modes have no default that was calibrated, only the paper's 0.2.
        given = tuple(ratio for ratio in self.keep_ratios if mode == "shadow" or ratio != AUTO)
        return given or (AUTO,)


def _parse_mode(text: str) -> tuple[str, bool | None, float | str | None]:
    """(mode, compensate, keep_ratio) of "shadow" or "shadow:uncompensated", each also with "@0.1"."""
    label, at, ratio = text.partition("@")
    mode, colon, suffix = label.partition(":")
    _one_of("modes", mode, MODES)
    if colon and suffix != UNCOMPENSATED:
        raise ValueError(f"--modes: wanted {mode} or {mode}:{UNCOMPENSATED}, got {text!r}")
    return mode, False if colon else None, _parse_ratio("modes", ratio) if at else None


def _parse_ratio(flag: str, word: str) -> float | str:
    """A keep_ratio as it is written on the command line."""
    try:
        ratio = word if word == AUTO else float(word)
    except ValueError:
        ratio = math.nan
    if ratio != AUTO and not 0 < float(ratio) <= 1:
        raise ValueError(f"--{flag}: wanted a keep_ratio in (0, 1] or {AUTO}, got {word!r}")
    return ratio


def _some(name: str, values: tuple[Any, ...]) -> None:
    if not values:
        raise ValueError(f"--{name}: wanted at least one, got none")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"--{name}: wanted some of {', '.join(allowed)}, got {value!r}")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"--{name}: wanted at least {least}, got {value}")
