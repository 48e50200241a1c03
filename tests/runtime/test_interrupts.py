"""After an exception anywhere, Ctrl-C included, a session holds the finished chunks and goes on as if nothing was."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shadowattn.runtime import Session
from shadowattn.runtime.executor.fused import Step, StepResult
from shadowattn.runtime.litert.interpreter import GraphRunner
from shadowattn.runtime.pipeline.estimates import EstimateRunner
from shadowattn.runtime.pipeline.options import PipelineOptions
from shadowattn.runtime.pipeline.stages import Stages

EXECUTORS = ("fused", "pipelined")
_INTERRUPTED = 5  # in the second chunk, or late in the first


def _uninterrupted(tiny: Path, executor: str, tokens: list[int]) -> np.ndarray:
    with Session.open(tiny, executor=executor, min_k=4) as session:
        return session.prefill(tokens)


class _Interrupting:
    """An executor that raises before or after the real work of its n-th chunk."""

    def __init__(self, real: object, chunk: int, after: bool) -> None:
        self._real = real
        self._left = chunk
        self._after = after

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def run(self, step: Step) -> StepResult:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise KeyboardInterrupt
        result: StepResult = self._real.run(step)  # type: ignore[attr-defined]
        if self._left == 0:
            raise KeyboardInterrupt
        return result


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("after", [False, True], ids=("before", "after"))
def test_around_a_chunk(tiny: Path, text: list[int], executor: str, after: bool) -> None:
    """`after`: the delegate has committed the chunk, the session has not."""
    wanted = _uninterrupted(tiny, executor, text[:100])
    with Session.open(tiny, executor=executor, min_k=4) as session:
        real = session._cached.executor
        session._cached.executor = _Interrupting(real, 3, after)  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            session.prefill(text[:100])
        session._cached.executor = real
        assert session.tokens == text[:32]
        assert session._engine.shadow.cache_length(session._cached.handle) == 32
        assert np.array_equal(session.prefill(text[32:100]), wanted)


@pytest.mark.parametrize("planner", ["off", "best"])
@pytest.mark.parametrize(
    ("owner", "method"),
    [(GraphRunner, "invoke"), (EstimateRunner, "invoke"), (Stages, "append"), (Stages, "attend")],
    ids=lambda part: getattr(part, "__name__", part),
)
@pytest.mark.parametrize("after", [False, True], ids=("before", "after"))
def test_inside_a_pipelined_chunk(
    tiny: Path, text: list[int], monkeypatch: pytest.MonkeyPatch, owner: type, method: str, after: bool, planner: str
) -> None:
    wanted = _uninterrupted(tiny, "pipelined", text[:80])
    original = getattr(owner, method)
    calls = 0

    def interrupted(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == _INTERRUPTED and not after:
            raise KeyboardInterrupt
        result = original(*arguments)
        if calls == _INTERRUPTED:
            raise KeyboardInterrupt
        return result

    pipeline = PipelineOptions(planner=planner)
    with Session.open(tiny, executor="pipelined", pipeline=pipeline, num_threads=2, min_k=4) as session:
        monkeypatch.setattr(owner, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.prefill(text[:80])
        monkeypatch.setattr(owner, method, original)
        assert session.length in (0, 16, 32)
        assert session._engine.shadow.cache_length(session._cached.handle) == session.length
        assert np.array_equal(session.prefill(text[session.length : 80]), wanted)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_in_the_progress_callback(tiny: Path, text: list[int], executor: str) -> None:
    wanted = _uninterrupted(tiny, executor, text[:100])

    def stop(done: int, total: int) -> None:
        if done == 48:
            raise KeyboardInterrupt

    with Session.open(tiny, executor=executor, min_k=4) as session:
        with pytest.raises(KeyboardInterrupt):
            session.prefill(text[:100], on_progress=stop)
        assert session.tokens == text[:48]
        assert np.array_equal(session.prefill(text[48:100]), wanted)


def test_in_score(tiny: Path, text: list[int]) -> None:
    with Session.open(tiny) as session:
        wanted = session.score(text[:60])

        def stop(done: int, total: int) -> None:
            raise RuntimeError("enough")

        with pytest.raises(RuntimeError, match="enough"):
            session.score(text[:60], on_progress=stop)
        assert np.array_equal(session.score(text[:60]), wanted)


def _fail(runner: GraphRunner) -> None:
    raise RuntimeError(f"{runner.signature}: planned failure")


def test_a_failing_graph_leaves_the_other_session_alone(
    tiny: Path, text: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Session.open(tiny) as first, Session.open(tiny) as second:
        first.prefill(text[:20])
        wanted = second.prefill(text[:20])
        with monkeypatch.context() as patch:
            patch.setattr(GraphRunner, "invoke", _fail)
            with pytest.raises(RuntimeError, match="decode: planned failure"):
                first.decode(1)
        second.reset()
        assert np.array_equal(second.prefill(text[:20]), wanted)
        assert first.length == 20
        first.decode(1)


SIGINTS = """
import random, signal, sys
import numpy as np
from shadowattn.runtime import Session
path, executor, threads, count, seed = sys.argv[1:]
tokens = [i * 7 % 97 for i in range(240)]
with Session.open(path, executor=executor, min_k=4, keep_ratio=0.3, num_threads=int(threads)) as session:
    wanted = session.prefill(tokens)
    interrupted = 0
    pauses = random.Random(int(seed))
    signal.signal(signal.SIGALRM, signal.default_int_handler)  # what Ctrl-C does, at a moment we choose
    for _ in range(int(count)):
        session.reset()
        try:
            signal.setitimer(signal.ITIMER_REAL, pauses.uniform(1e-4, 0.02), 2e-3 if pauses.random() < 0.1 else 0.05)
            while True:
                session.reset()
                session.prefill(tokens)
        except KeyboardInterrupt:
            while True:  # a second one may come meanwhile
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    break
                except KeyboardInterrupt:
                    pass
            interrupted += 1
        assert session.tokens == tokens[: session.length], session.length
        if session.length < 240:
            assert np.array_equal(session.prefill(tokens[session.length :]), wanted), session.length
    print("interrupted", interrupted)
"""


@pytest.mark.parametrize(
    ("executor", "threads", "count"), [("fused", 1, 40), ("pipelined", 1, 40), ("pipelined", 2, 150)]
)
def test_real_signals(tiny: Path, executor: str, threads: int, count: int) -> None:
    """Signals at random moments, a tenth of them followed by others; the text then goes on to the same bits."""
    seed = int(np.random.default_rng().integers(2**31))
    print("seed", seed)
    command = [sys.executable, "-c", SIGINTS, *map(str, (tiny, executor, threads, count, seed))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"interrupted {count}\n"


@pytest.mark.parametrize("call", [lambda s: s.prefill([1, 2, 3]), lambda s: s.decode(5), lambda s: s.score([1, 2, 3])])
def test_when_a_graph_is_first_opened(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[Session], object]
) -> None:
    with Session.open(tiny) as session:
        session.prefill([9] * 16)
        with monkeypatch.context() as patch:
            patch.setattr(GraphRunner, "_side", _interrupt_side)
            with pytest.raises(KeyboardInterrupt):
                call(session)
        call(session) if session.length else session.prefill([1])


def _interrupt_side(_: GraphRunner, __: str) -> dict[str, np.ndarray]:
    raise KeyboardInterrupt
