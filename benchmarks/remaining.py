"""Time left, from what the parts before took."""

import time


class Remaining:
    """cost: of all parts, in any unit that is about proportional to their time."""

    def __init__(self, cost: float) -> None:
        self._left = cost
        self._done = 0.0
        self._seconds = 0.0
        self._since = time.monotonic()

    def finished(self, cost: float) -> None:
        now = time.monotonic()
        self._seconds += now - self._since
        self._done += cost
        self._since = now
        self._left -= cost

    def skipped(self, cost: float) -> None:
        self._since = time.monotonic()
        self._left -= cost

    def in_words(self) -> str:
        """To be put behind a part's name; nothing before the first part is finished."""
        if not self._done:
            return ""
        return f"; about {self._seconds / self._done * self._left / 60:.0f} min left"
