"""One session and other threads: a second one is refused, cancel() is heard. Events, not sleeps, order what happens."""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import shadowattn
from shadowattn.runtime import Session
from shadowattn.runtime.session.generation import Generation

_PATIENCE = 60.0  # seconds that a healthy run never needs


class Pause:
    """An on_progress that stops the thread it runs in after one chunk, until go()."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._go = threading.Event()

    def __call__(self, done: int, total: int) -> None:
        self._reached.set()
        assert self._go.wait(_PATIENCE)

    def wait(self) -> None:
        """Until the other thread is there."""
        assert self._reached.wait(_PATIENCE)

    def go(self) -> None:
        self._go.set()


CALLS: dict[str, Callable[[Session, Generation], object]] = {
    "prefill": lambda s, g: s.prefill([1]),
    "decode": lambda s, g: s.decode(1),
    "generate": lambda s, g: s.generate([1], 2),
    "next": lambda s, g: next(g),
    "close a generation": lambda s, g: g.close(),
    "score": lambda s, g: s.score([1, 2]),
    "prepare": lambda s, g: s.prepare(3),
    "rewind": lambda s, g: s.rewind(0),
    "reset": lambda s, g: s.reset(),
    "configure": lambda s, g: s.configure(mode="dense"),
    "set_factors": lambda s, g: s.set_factors(None),
}


def test_a_second_thread_is_refused(tiny: Path, text: list[int]) -> None:
    with Session.open(tiny) as session, ThreadPoolExecutor(1, "worker") as worker:
        wanted = session.prefill(text[:100])
        generation = session.generate(text[:100], 3)
        session.reset()
        pause = Pause()
        task = worker.submit(session.prefill, text[:100], on_progress=pause)
        pause.wait()
        try:
            for name, call in CALLS.items():
                with pytest.raises(
                    ValueError, match=r"in use by thread 'worker_0'; wait .* cancel\(\), or open a sess"
                ):
                    call(session, generation)
                assert session.settings.mode == "shadow", name
            assert session.length == 16
            assert session.tokens == text[:16]
            assert "16 of 256 tokens" in repr(session)
            assert session.stats().rows > 0
        finally:
            pause.go()
        assert np.array_equal(task.result(_PATIENCE), wanted)
        session.decode(1)  # the other thread has left


def test_a_session_may_move_from_thread_to_thread(tiny: Path, text: list[int]) -> None:
    with Session.open(tiny) as session:
        wanted = list(session.generate(text[:20], 6))
        stream = session.generate(text[:20], 6)
        found = [next(stream)]
        with ThreadPoolExecutor(1) as worker:
            found.append(worker.submit(next, stream).result(_PATIENCE))
        assert [*found, *stream] == wanted


def test_a_callback_may_use_its_own_session(tiny: Path, text: list[int]) -> None:
    seen = []
    with Session.open(tiny) as session:
        session.prefill(text[:40], on_progress=lambda done, total: seen.append((session.length, session.stats().rows)))
        assert [length for length, _ in seen] == [16, 32, 40]
        with pytest.raises(RuntimeError, match="cache was changed while"):
            session.prefill(text[:40], on_progress=lambda done, total: session.reset())


@pytest.mark.parametrize("name", ["prefill", "score"])
def test_cancel_ends_a_prompt_between_two_chunks(tiny: Path, text: list[int], name: str) -> None:
    with Session.open(tiny) as session, ThreadPoolExecutor(1) as worker:
        call = getattr(session, name)
        wanted = call(text[:100])
        session.reset()
        pause = Pause()
        task = worker.submit(call, text[:100], on_progress=pause)
        pause.wait()
        session.cancel()
        pause.go()
        with pytest.raises(shadowattn.CancelledError, match=r"cancelled after 16 of (99|100) tokens; the session hol"):
            task.result(_PATIENCE)
        assert session.tokens == text[:16]
        assert np.array_equal(call(text[16:100] if name == "prefill" else text[:100]), wanted)


def test_cancel_ends_an_answer_while_its_prompt_runs(tiny: Path, text: list[int]) -> None:
    with Session.open(tiny) as session, ThreadPoolExecutor(1) as worker:
        wanted = list(session.generate(text[:100], 5))
        session.reset()
        pause = Pause()
        stream = session.generate(text[:100], 5, on_progress=pause)
        task = worker.submit(list, stream)
        pause.wait()
        session.cancel()
        pause.go()
        assert task.result(_PATIENCE) == []
        assert session.stop_reason == stream.stop_reason == "cancelled"
        assert session.length == 16
        assert list(session.generate(text[:100], 5)) == wanted


@pytest.mark.parametrize("whose", ["session", "generation"])
def test_cancel_ends_an_answer_between_two_tokens(tiny: Path, text: list[int], whose: str) -> None:
    with Session.open(tiny) as session, ThreadPoolExecutor(1) as worker:
        wanted = list(session.generate(text[:20], 10))
        session.reset()
        stream = session.generate(text[:20], 10)
        said, go, found = threading.Event(), threading.Event(), []

        def listen() -> None:
            for token in stream:
                found.append(token)
                if len(found) == 3:
                    said.set()
                    assert go.wait(_PATIENCE)

        task = worker.submit(listen)
        assert said.wait(_PATIENCE)
        {"session": session, "generation": stream}[whose].cancel()  # type: ignore[attr-defined]
        go.set()
        task.result(_PATIENCE)
        assert found == wanted[:3]
        assert session.stop_reason == "cancelled"
        assert list(session.generate(text[:20], 10)) == wanted


def test_cancel_before_the_first_token(tiny: Path, text: list[int]) -> None:
    with Session.open(tiny) as session:
        stream = session.generate(text[:20], 10)
        stream.cancel()
        assert list(stream) == []
        assert stream.stop_reason == "cancelled"
        assert session.length == 0


def test_cancel_ends_nothing_that_begins_later(tiny: Path, text: list[int]) -> None:
    with Session.open(tiny) as session:
        session.cancel()
        wanted = session.prefill(text[:40])
        session.cancel()
        session.reset()
        assert np.array_equal(session.prefill(text[:40]), wanted)
        first = session.generate(text[:20], 4)
        second = session.generate(text[:20], 4)
        first.cancel()
        assert len(list(second)) == 4


def test_many_threads_at_one_session_leave_it_whole(tiny: Path, text: list[int]) -> None:
    """Each of 4 threads tries until it was let in 5 times; whatever got in ran undisturbed."""
    with Session.open(tiny, num_threads=1) as session:
        start = threading.Barrier(4)
        wanted = [session.score(text[number : number + 30]) for number in range(4)]

        def work(number: int) -> None:
            start.wait(_PATIENCE)
            done = 0
            while done < 5:
                with contextlib.suppress(ValueError):  # in use by another
                    assert np.array_equal(session.score(text[number : number + 30]), wanted[number])
                    done += 1

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, range(4)))
        assert session._engine.shadow.cache_length(session._cached.handle) == session.length
