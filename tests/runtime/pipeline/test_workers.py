"""Two workers and their buffers, with steps that write down what happened: order, back-pressure, errors, Ctrl-C."""

import random
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from shadowattn.runtime.pipeline.trace import Clock
from shadowattn.runtime.pipeline.workers import SLOTS, Overlapped

_SECONDS = 20  # none of these tests should take one
Events = list[tuple[str, int]]


@pytest.fixture(autouse=True)
def threads_switch_anywhere() -> Iterator[None]:
    """Python hands its lock on every microsecond, so that the workers' steps interleave in every way."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class _Log:
    """Steps of random length that write (what, group) when they begin and end, and fail where they are told to."""

    def __init__(self, failing: dict[tuple[str, int], BaseException] | None = None) -> None:
        seed = random.SystemRandom().randrange(2**31)
        print("seed", seed)
        self._dice = random.Random(seed)
        self.failing = failing or {}
        self.events: Events = []
        self.held: dict[int, int] = {}  # slot -> the group whose scores it holds
        self.active = 0

    def estimate(self, group: int, slot: int) -> None:
        assert threading.current_thread().name == "shadowattn-estimate"
        self._step("estimate", group)
        assert slot not in self.held
        self.held[slot] = group

    def attend(self, group: int, slot: int) -> None:
        self._step("attend", group)
        assert self.held.pop(slot) == group

    def _step(self, what: str, group: int) -> None:
        self.active += 1
        try:
            self.events.append((f"{what} begins", group))
            for _ in range(self._dice.randrange(3000)):
                pass
            if error := self.failing.get((what, group)):
                raise error
            self.events.append((f"{what} ends", group))
        finally:
            self.active -= 1


def within_seconds(work: Callable[[], object]) -> BaseException | None:
    """Runs it in another thread, so that what hangs fails; what it raised."""
    errors: list[BaseException | None] = []

    def guarded() -> None:
        try:
            work()
            errors.append(None)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    assert errors, "hangs"
    return errors[0]


def works(run: Overlapped, count: int = 7) -> Events:
    log = _Log()
    assert within_seconds(lambda: run(count, log.estimate, log.attend, Clock())) is None
    for what in ("estimate begins", "estimate ends", "attend begins", "attend ends"):
        assert [group for name, group in log.events if name == what] == list(range(count))
    return log.events


def fails(run: Overlapped, where: tuple[str, int], planned: BaseException) -> tuple[BaseException | None, Events]:
    """What a run raises, and what had happened then; nothing of it goes on, and the next run works."""
    log = _Log({where: planned})
    error = within_seconds(lambda: run(7, log.estimate, log.attend, Clock()))
    assert log.active == 0
    before = list(log.events)
    works(run)
    assert log.events == before
    what, group = where
    assert (f"{what} ends", group) not in before
    assert all(other <= group for name, other in before if name == "attend ends")
    return error, before


def test_order_and_back_pressure() -> None:
    run = Overlapped("npu")
    for count in (0, 1, 2, 7, 30):
        place = {event: index for index, event in enumerate(works(run, count))}
        for group in range(count):
            assert place["estimate ends", group] < place["attend begins", group]
            if group >= SLOTS:
                assert place["attend ends", group - SLOTS] < place["estimate begins", group]


def test_both_work_at_once() -> None:
    """A rendezvous: each estimate waits for the attend of the group before to begin."""
    begun, met = ([threading.Event() for _ in range(5)] for _ in range(2))

    def estimate(group: int, slot: int) -> None:
        assert group == 0 or begun[group - 1].wait(_SECONDS)
        if group:
            met[group - 1].set()

    def attend(group: int, slot: int) -> None:
        begun[group].set()
        assert group == 4 or met[group].wait(_SECONDS)

    assert within_seconds(lambda: Overlapped("npu")(5, estimate, attend, Clock())) is None


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("where", [("estimate", 0), ("estimate", 6), ("attend", 0), ("attend", 3), ("attend", 6)])
def test_an_error_stops_both(where: tuple[str, int], error: type[BaseException]) -> None:
    run = Overlapped("npu")
    for _ in range(3):
        planned = error("planned")
        assert fails(run, where, planned)[0] is planned


class _InterruptedQueue:
    """The queue of tasks, at whose n-th put Ctrl-C arrives just before or just after."""

    def __init__(self, run: Overlapped, put: int, after: bool) -> None:
        self._run, self._real, self._left, self._after = run, run._tasks, put, after

    def put(self, task: Callable[[], None] | None) -> None:
        self._left -= 1
        if self._left or self._after:
            self._real.put(task)
        if not self._left:
            self._run._tasks = self._real
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [False, True], ids=("before", "after"))
@pytest.mark.parametrize("put", [1, 2])
def test_ctrl_c_while_a_task_is_handed_over(after: bool, put: int) -> None:
    """put 1: the estimates' task; put 2: what the end of the estimates is noticed by, after an error in attend."""
    run = Overlapped("npu")
    run._tasks = _InterruptedQueue(run, put, after)  # type: ignore[assignment]
    assert isinstance(fails(run, ("attend", 1), RuntimeError("planned"))[0], KeyboardInterrupt)


def test_a_second_ctrl_c_before_the_first_is_dealt_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimates' thread still waits for a slot then, and the next run must not wait for that thread."""
    run, settle = Overlapped("npu"), Overlapped._settle

    def second(self: Overlapped) -> None:
        monkeypatch.setattr(Overlapped, "_settle", settle)
        raise KeyboardInterrupt("second")

    monkeypatch.setattr(Overlapped, "_settle", second)
    log = _Log({("attend", 0): KeyboardInterrupt("first")})
    assert str(within_seconds(lambda: run(7, log.estimate, log.attend, Clock()))) == "second"
    works(run)  # when it ends, so has that thread's last estimate
    assert ("estimate begins", SLOTS) not in log.events
