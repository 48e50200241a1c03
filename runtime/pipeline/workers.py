"""Runs the head groups of a layer on two workers: a thread launches estimates, the caller selects and attends.

Groups go in the same order on both. A *slot* is an estimate buffer: a launch waits until one is free, so the estimates
are never more than SLOTS groups ahead. What is computed does not depend on timing, only when.
"""

import functools
import queue
import threading
import weakref
from collections.abc import Callable

from shadowattn.runtime.pipeline.trace import Clock

SLOTS = 2
Step = Callable[[int, int], None]  # (number of the group, slot)
_Free = queue.SimpleQueue[int | None]  # slots; None: no more will come


def sequential(count: int, estimate: Step, attend: Step, clock: Clock) -> None:
    """Groups 0 .. count - 1, one stage after the other, on this thread."""
    for group in range(count):
        estimate(group, 0)
        attend(group, 0)


class Overlapped:
    """The same with the estimates on a thread of their own. Raises what either step raises, and then the other has
    ended."""

    def __init__(self, worker: str) -> None:
        """worker: the thread's name in a trace."""
        self._worker = worker
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._unsettled: list[_Free] = []  # free slots of calls whose launch may wait for one for ever
        weakref.finalize(self, self._tasks.put, None)  # ends the thread
        threading.Thread(target=_work, args=(self._tasks,), name="shadowattn-estimate", daemon=True).start()

    def __call__(self, count: int, estimate: Step, attend: Step, clock: Clock) -> None:
        """The clock's stages `wait_scores` and `wait_slot` are of this thread and of the other."""
        if self._unsettled:  # Ctrl-C, twice: the second one before the first was dealt with
            self._settle()
        free: _Free = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[int, int] | BaseException] = queue.SimpleQueue()
        for slot in range(SLOTS):
            free.put(slot)

        def launch() -> None:
            try:
                for group in range(count):
                    with clock.span("wait_slot", "wait", self._worker):
                        slot = free.get()
                    if slot is None:
                        return
                    estimate(group, slot)
                    done.put((group, slot))
            except BaseException as error:  # the caller's to raise
                done.put(error)

        try:
            self._unsettled.append(free)
            self._tasks.put(launch)
            for _ in range(count):
                with clock.span("wait_scores", "wait"):
                    result = done.get()
                if isinstance(result, BaseException):
                    raise result
                attend(*result)
                free.put(result[1])
            self._unsettled.clear()
        except BaseException:
            self._settle()
            raise

    def _settle(self) -> None:
        """Returns when the other thread has ended its task, and so is done with the buffers. Ctrl-C meanwhile is raised
        afterwards: queues stand it at any moment, unlike the locks of threading.Event."""
        ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        interrupt: KeyboardInterrupt | None = None
        while True:
            try:
                for free in self._unsettled:
                    free.put(None)  # a launch that waits for a slot gives up
                self._tasks.put(functools.partial(ended.put, None))  # after the task, if that was put at all
                ended.get()
                self._unsettled.clear()
                break
            except KeyboardInterrupt as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt


def _work(tasks: "queue.SimpleQueue[Callable[[], None] | None]") -> None:
    while (task := tasks.get()) is not None:
        task()
        del task  # or its closures would keep buffers alive until the next
