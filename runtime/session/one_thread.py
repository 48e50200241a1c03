"""A session belongs to one thread at a time: a second one is refused, not made to wait."""

import threading
from types import TracebackType


class OneThread:
    """A context manager that lets one thread in; the same thread may enter again, in a callback for example."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._owner = ""

    def __enter__(self) -> None:
        """Raises ValueError if another thread is inside."""
        if not self._lock.acquire(blocking=False):
            raise ValueError(
                f"the session is in use by thread {self._owner!r}; wait until its call returns, end it there with "
                "cancel(), or open a session for each thread (they share the weights)"
            )
        self._owner = threading.current_thread().name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
