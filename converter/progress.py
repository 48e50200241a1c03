"""Progress of a conversion on stderr: a line per step, counted where it takes long, and peak memory at the end."""

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

Counter = Callable[[int, int], None]
_SPARSE_SECONDS = 5.0
_TERMINAL_SECONDS = 0.1


class Progress:
    """Writes to `stream`; on a terminal a step's line is rewritten as it advances, elsewhere every five seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._began = time.monotonic()

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Counter]:
        """Announces a step; yields count(done, total); ends the line with the seconds it took."""
        began = time.monotonic()
        shown = began
        self._show(f"{title} ...", end="" if self._terminal else "\n")

        def count(done: int, total: int) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown >= (_TERMINAL_SECONDS if self._terminal else _SPARSE_SECONDS):
                shown = now
                self._show(f"{title} ... {done}/{total}", end="" if self._terminal else "\n")

        yield count
        self._show(f"{title}: {time.monotonic() - began:.1f} s")

    def warn(self, sentence: str) -> None:
        """A line of its own: what to know about the result, though the conversion goes on."""
        self._show(f"warning: {sentence}")

    def summary(self, sentence: str) -> None:
        """The last line: what was made, in how many minutes, with how much memory at most."""
        minutes = (time.monotonic() - self._began) / 60
        self._show(f"{sentence}; took {minutes:.1f} min, {peak_memory_gb():.1f} GB of memory at most")

    def _show(self, text: str, end: str = "\n") -> None:
        start = "\r\x1b[K" if self._terminal else ""
        self._stream.write(f"{start}{text}{end}")
        self._stream.flush()


class Silent(Progress):
    """Shows nothing."""

    def _show(self, text: str, end: str = "\n") -> None:
        pass


def peak_memory_gb() -> float:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9
