"""A progress line on stderr, for the commands of converter and runtime."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TextIO

_QUIET_SECONDS = 1.0  # no count is shown before
_TERMINAL_INTERVAL = 0.1
_LOG_INTERVAL = 5.0  # not a terminal: a line now and then, each on its own


class Progress:
    """Counts `done` of `total` units: `Progress("prefill", "tokens").update(512, 4096)`; close() or `with` ends it.

    On a terminal one line is rewritten; elsewhere a line is written every few seconds. Work of less than a second shows
    nothing, and nothing is left on a terminal when it is over. keep: the label is shown at once, and stays, with the
    seconds that the work took.
    """

    def __init__(self, label: str, unit: str = "", stream: TextIO | None = None, *, keep: bool = False) -> None:
        self._label = label
        self._unit = unit
        self._stream = sys.stderr if stream is None else stream
        self._keep = keep
        self._terminal = self._stream.isatty()
        self._start = time.monotonic()
        self._due = self._start + _QUIET_SECONDS
        self._width = 0
        if keep:
            self._write(f"{label} ...")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._keep and kind is None:
            self._write(f"{self._label}: {time.monotonic() - self._start:.1f} s")
        self.close()

    def update(self, done: int, total: int, note: str = "") -> None:
        """Says how far the work is; writes only if enough time has gone by since the last line."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + (_TERMINAL_INTERVAL if self._terminal else _LOG_INTERVAL)
        self._write(self._line(done, total, now - self._start, note))

    def close(self) -> None:
        """Wipes the line of a terminal, or ends the one that is kept; elsewhere nothing is left to do."""
        if self._width:
            self._stream.write("\n" if self._keep else "\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0

    def _line(self, done: int, total: int, seconds: float, note: str) -> str:
        unit = f" {self._unit}" if self._unit else ""
        line = f"{self._label}: {done:,} of {total:,}{unit} ({100 * done // max(total, 1)} %), {seconds:.0f} s"
        if 0 < done < total:
            line += f", about {seconds * (total - done) / done:.0f} s left"
        return f"{line}; {note}" if note else line

    def _write(self, line: str) -> None:
        if self._terminal:
            padding = " " * max(0, self._width - len(line))
            self._width = len(line)
            self._stream.write(f"\r{line}{padding}")
        else:
            self._stream.write(line + "\n")
        self._stream.flush()


@contextlib.contextmanager
def waiting(label: str, stream: TextIO | None = None) -> Iterator[None]:
    """Says on a terminal what is being waited for, where nothing can be counted; the line goes when it is over."""
    stream = sys.stderr if stream is None else stream
    text = f"{label} ..."
    terminal = stream.isatty()
    if terminal:
        stream.write(text)
        stream.flush()
    try:
        yield
    finally:
        if terminal:
            stream.write("\r" + " " * len(text) + "\r")
            stream.flush()
