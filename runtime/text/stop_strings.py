"""Ends a stream of text before the first of some strings, which may lie across pieces."""

from collections.abc import Sequence


class StopStrings:
    """Lets text through up to the string that is complete first. What may still become one is held back."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(strings)
        self._held = ""

    def push(self, piece: str) -> tuple[str, bool]:
        """The text that is certain now, and whether a stop string was met: it and all after it are dropped."""
        self._held += piece
        found = [(start + len(text), start) for text in self._strings if (start := self._held.find(text)) >= 0]
        if found:
            certain, self._held = self._held[: min(found)[1]], ""
            return certain, True
        waiting = self._waiting()
        certain, self._held = self._held[: len(self._held) - waiting], self._held[len(self._held) - waiting :]
        return certain, False

    def flush(self) -> str:
        """What was held back, when no more text will come."""
        held, self._held = self._held, ""
        return held

    def _waiting(self) -> int:
        """Characters at the end that a stop string may begin with."""
        longest = max(map(len, self._strings), default=1) - 1
        counts = range(min(longest, len(self._held)), 0, -1)
        return next((n for n in counts if any(text.startswith(self._held[-n:]) for text in self._strings)), 0)
