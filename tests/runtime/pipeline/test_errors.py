"""What fails in a pipelined chunk, in either worker: the message, no worker left, and the session goes on."""

import gc
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from claiming import ClaimingLibrary
from pipelines import goes_on, open_pipelined

from shadowattn.runtime.pipeline.options import NpuChoice, PipelineOptions
from shadowattn.runtime.pipeline.stages import Stages

_NAME = "shadowattn-estimate"


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = workers()  # of tests that failed
    yield
    gc.collect()
    for thread in workers() - before:
        thread.join(5)
    assert not workers() - before


def workers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == _NAME}


# --- the estimate's worker ---


@pytest.mark.parametrize("invoke", [1, 2, 8, 9, 21])
def test_an_estimate_fails(tiny: Path, text: list[int], claiming: ClaimingLibrary, invoke: int) -> None:
    """4 heads, each a launch, in 2 layers: 8 invokes a chunk."""
    npu = NpuChoice.parse(claiming.npu(f"fail=invoke:{invoke}"))
    with open_pipelined(tiny, PipelineOptions(npu, scales="rank", heads=(1,))) as session:
        message = rf"^estimate_16_64_1_0: claiming delegate: invoke {invoke} fails, as asked$"
        with pytest.raises(RuntimeError, match=message):
            session.prefill(text[:69])
        finished = (invoke - 1) // 8
        assert session.tokens == text[: 16 * finished]
        record = session.pipelined.record
        assert len(record.chunks) == finished
        assert (record.buckets.sum(-1) == finished).all()
        if finished:
            session.decode(7)  # of nothing that failed is there a trace
            assert len(record.chunks) == finished
            session.rewind(16 * finished)
        else:
            with pytest.raises(ValueError, match="decode before prefill"):
                session.decode(1)
        goes_on(session, tiny, text)
        assert all(chunk.launches == 8 for chunk in record.chunks)
        assert [row["failures"] for row in session.pipelined.estimator.report() if "_16_64_" in row["graph"]] == [1]


def test_a_delegate_that_cannot_prepare(tiny: Path, text: list[int], claiming: ClaimingLibrary) -> None:
    """Nothing can be estimated, and the session says so each time; a mode without estimates works."""
    npu = NpuChoice.parse(claiming.npu("fail=prepare"))
    with open_pipelined(tiny, PipelineOptions(npu)) as session:
        for call in (session.prefill, session.prefill, lambda tokens: session.prepare(len(tokens))):
            with pytest.raises(RuntimeError, match=r"^estimate_16_64_\d_0: .*prepare fails, as asked"):
                call(text[:40])
            assert session.length == 0
        session.configure(mode="dense")
        dense = session.prefill(text[:40])
        session.configure(mode="shadow")
        with pytest.raises(RuntimeError, match="prepare fails"):
            session.prefill(text[40:60])
        assert session.tokens == text[:40]
        session.use_pipeline(session.make_pipeline(PipelineOptions()))
        session.prefill(text[40:60])
    with open_pipelined(tiny, PipelineOptions(), mode="dense") as session:
        assert np.array_equal(session.prefill(text[:40]), dense)


def test_a_delegate_that_takes_nothing(tiny: Path, text: list[int], claiming: ClaimingLibrary) -> None:
    taken_by_none = PipelineOptions(NpuChoice.parse(claiming.npu("claim=none")), heads=(4,))
    warning = "not at all: node 0 BATCH_MATMUL .* runs on the CPU as host INT8"
    with open_pipelined(tiny, taken_by_none) as session, pytest.warns(RuntimeWarning, match=warning):
        logits = session.prefill(text[:16])
    with open_pipelined(tiny, PipelineOptions()) as session:
        assert np.array_equal(session.prefill(text[:16]), logits)
    needed = NpuChoice.parse(claiming.npu("claim=none"), require_npu=True)
    with open_pipelined(tiny, PipelineOptions(needed)) as session:
        with pytest.raises(RuntimeError, match="which require_npu forbids"):
            session.prefill(text[:16])
        assert session.length == 0


def test_two_sessions_one_of_which_fails(tiny: Path, text: list[int], claiming: ClaimingLibrary) -> None:
    """They share graphs and delegate; the failing invoke belongs to whoever comes to it, once."""
    options = PipelineOptions(NpuChoice.parse(claiming.npu("fail=invoke:40")), scales="rank", heads=(1,))
    failures: list[str] = []
    done: list[bool] = []

    def work() -> None:
        with open_pipelined(tiny, options) as session:
            for _ in range(2):
                try:
                    session.reset()
                    session.prefill(text[:69])
                except RuntimeError as error:
                    failures.append(re.sub("64|256", "S", str(error)))
            session.reset()
            goes_on(session, tiny, text)
            done.append(True)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 2
    assert failures == ["estimate_16_S_1_0: claiming delegate: invoke 40 fails, as asked"]


# --- this thread ---


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("method", ["append", "attend"])
def test_a_step_fails_while_estimates_run(
    tiny: Path,
    text: list[int],
    monkeypatch: pytest.MonkeyPatch,
    claiming: ClaimingLibrary,
    method: str,
    error: type[BaseException],
) -> None:
    """The tenth call: of attend in the second chunk, with launches in flight that take 2 ms."""
    original, calls = getattr(Stages, method), iter(range(1, 1000))

    def failing(*arguments: object) -> None:
        if next(calls) == 10:
            raise error("planned")
        original(*arguments)

    options = PipelineOptions(NpuChoice.parse(claiming.npu("delay_ms=2")), scales="rank", heads=(1,))
    with open_pipelined(tiny, options) as session:
        with monkeypatch.context() as patch:
            patch.setattr(Stages, method, failing)
            with pytest.raises(error, match="planned"):
                session.prefill(text[:69])
        assert session.length == {"append": 4 * 16, "attend": 16}[method]
        goes_on(session, tiny, text)


_SIGINTS = """
import random, signal, sys
import numpy as np
from shadowattn.runtime import Session
from shadowattn.runtime.pipeline.options import PipelineOptions
path, seed = sys.argv[1:]
tokens = [i * 7 % 97 for i in range(240)]
options = PipelineOptions(heads=(1,))
with Session.open(path, executor="pipelined", pipeline=options, min_k=4, keep_ratio=0.3, num_threads=2) as session:
    assert session.pipelined.overlaps
    wanted = session.prefill(tokens)
    interrupted = 0
    pauses = random.Random(int(seed))
    signal.signal(signal.SIGALRM, signal.default_int_handler)  # what Ctrl-C does, at a moment we choose
    for _ in range(150):
        session.reset()
        try:
            signal.setitimer(signal.ITIMER_REAL, pauses.uniform(1e-4, 0.01), 2e-3 if pauses.random() < 0.1 else 0.05)
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


def test_real_signals_while_work_overlaps(tiny: Path) -> None:
    """150 of them at random moments, a tenth of them followed by others; the text then goes on to the same bits."""
    seed = str(np.random.default_rng().integers(2**31))
    print("seed", seed)
    command = [sys.executable, "-c", _SIGINTS, str(tiny), seed]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "interrupted 150\n"


# --- the end ---


def _closed(tiny: Path, text: list[int]) -> None:
    session = open_pipelined(tiny, PipelineOptions(heads=(1,)))
    session.prefill(text[:40])
    assert len(workers()) == 1
    executor = session.pipelined
    session.close()
    for call in (lambda: session.prefill([1]), lambda: session.make_pipeline(PipelineOptions())):
        with pytest.raises(ValueError, match="the session is closed"):
            call()
    assert executor.record.chunks
    gone.append(weakref.ref(executor))


def _forgotten_in_the_middle_of_a_text(tiny: Path, text: list[int]) -> None:
    session = open_pipelined(tiny, PipelineOptions())
    tokens = session.generate(text[:40], 5)
    next(tokens)
    gone.append(weakref.ref(session.pipelined))


gone: list[Callable[[], object]] = []


@pytest.mark.parametrize("end", [_closed, _forgotten_in_the_middle_of_a_text])
def test_a_session_takes_its_worker_along(tiny: Path, text: list[int], end: Callable[..., None]) -> None:
    """That the worker ended too is the fixture's to say."""
    end(tiny, text)
    gc.collect()
    assert gone.pop()() is None


_LEFT_OPEN = """
import sys
from shadowattn.runtime import Session
from shadowattn.runtime.pipeline.options import NpuChoice, PipelineOptions
from shadowattn.runtime.pipeline.stages import Stages
pipeline = PipelineOptions(NpuChoice.parse(sys.argv[2]), heads=(1,))
session = Session.open(sys.argv[1], executor="pipelined", pipeline=pipeline, num_threads=2, min_k=4)
session.prefill([5] * 40)
Stages.attend = lambda *_: sys.exit(7)
session.prefill([6] * 40)
"""


def test_a_program_that_ends_in_the_middle_of_a_chunk(tiny: Path, claiming: ClaimingLibrary) -> None:
    command = [sys.executable, "-c", _LEFT_OPEN, str(tiny), claiming.npu("delay_ms=2")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 7, done.stderr
    assert "Traceback" not in done.stderr
