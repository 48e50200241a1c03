"""The seam between a session and its graphs: one chunk in, logits and hidden rows out. And the fused form."""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from shadowattn.runtime.executor.engine import Engine
from shadowattn.runtime.session.settings import CacheSettings


@dataclasses.dataclass(frozen=True)
class Step:
    """One chunk. length: T; tokens: the n_valid real ones; position: of the first; cache: the handle."""

    length: int
    tokens: list[int]
    position: int
    cache: int
    settings: CacheSettings
    wants_hidden: bool = False

    @property
    def n_valid(self) -> int:
        return len(self.tokens)

    @property
    def end(self) -> int:
        """Rows in the cache after the chunk."""
        return self.position + len(self.tokens)


@dataclasses.dataclass(frozen=True)
class StepResult:
    """logits float32 [vocab] of the last real token; hidden float32 [n_valid,D] if the step wanted it. Copies."""

    logits: np.ndarray
    hidden: np.ndarray | None


class Executor(Protocol):
    """Runs chunks. Both forms append to the delegate's cache, which commits when the last layer is done.

    seconds: wall time by stage; copied_bytes: bytes copied between graphs.
    """

    copied_bytes: int

    @property
    def seconds(self) -> Mapping[str, float]: ...

    def run(self, step: Step) -> StepResult:
        """Hold the engine's lock. Raises RuntimeError with the delegate's message; the cache then needs a rewind."""

    def reset_stats(self) -> None:
        """Counts and seconds begin anew."""

    def prepare(self, length: int, end: int, settings: CacheSettings) -> None:
        """Opens what a chunk of `length` rows that ends at position `end` needs. Hold the engine's lock."""

    def is_open(self, length: int) -> bool:
        """Whether chunks of `length` rows can run without packing weights first. Hold the engine's lock."""


class FusedExecutor:
    """One graph per chunk, the custom ops inside."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.copied_bytes = 0

    def reset_stats(self) -> None:
        self.seconds.clear()

    def prepare(self, length: int, end: int, settings: CacheSettings) -> None:
        self._engine.runner(_signature(length))

    def is_open(self, length: int) -> bool:
        return self._engine.is_open(_signature(length))

    def run(self, step: Step) -> StepResult:
        runner = self._engine.runner(_signature(step.length))
        start = time.perf_counter()
        fill_tokens(runner.inputs["tokens"], step.tokens)
        for name, value in (("position", step.position), ("n_valid", step.n_valid), ("cache", step.cache)):
            runner.inputs[name][0] = value
        runner.invoke()
        result = read_result(runner.outputs, step)
        self.seconds["total"] += time.perf_counter() - start
        return result


def fill_tokens(view: np.ndarray, tokens: list[int]) -> None:
    """Writes token ids into a [1,T] input, zeros after them."""
    view[0, : len(tokens)] = tokens
    view[0, len(tokens) :] = 0


def read_result(outputs: dict[str, np.ndarray], step: Step) -> StepResult:
    """Copies logits, and the real rows of hidden if wanted."""
    hidden = outputs["hidden"][0, : step.n_valid].copy() if step.wants_hidden else None
    return StepResult(outputs["logits"][0].copy(), hidden)


def _signature(length: int) -> str:
    return "decode" if length == 1 else f"prefill_{length}"
