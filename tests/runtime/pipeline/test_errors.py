"""What fails in a pipelined chunk, in either worker: the message, no worker left, and the session goes on."""

import gc
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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


def test_two_sessions_one_of_which_fails(tiny: Path, text: list[int], claiming: ClaimingLibrary) -> None:
    """They share graphs and delegate; the failing invoke belongs to whoever comes to it, once."""
    options = PipelineOptions(NpuChoice.parse(claiming.npu("fail=invoke:40")), scales="rank", heads=(1,))
    failures: list[str] = []

    def work(_: int) -> None:
        with open_pipelined(tiny, options) as session:
            for _ in range(2):
                try:
                    session.reset()
                    session.prefill(text[:69])
                except RuntimeError as error:
                    failures.append(re.sub("64|256", "S", str(error)))
            session.reset()
            goes_on(session, tiny, text)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(work, range(2)))  # raises what they raise
    assert failures == ["estimate_16_S_1_0: claiming delegate: invoke 40 fails, as asked"]


# --- this thread ---


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize(("method", "held"), [("append", 4 * 16), ("attend", 16)])
def test_a_step_fails_while_estimates_run(
    tiny: Path, text: list[int], monkeypatch: pytest.MonkeyPatch, claiming: ClaimingLibrary, method: str, held: int,
    error: type[BaseException],
) -> None:  # fmt: skip
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
        assert session.length == held
        goes_on(session, tiny, text)


# --- the end ---


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_session_takes_its_worker_along(tiny: Path, text: list[int], forgotten: bool) -> None:
    """Closed, or forgotten in the middle of a text. That the worker ended too is the fixture's to say."""
    session = open_pipelined(tiny, PipelineOptions(heads=(1,)))
    tokens = session.generate(text[:40], 5)
    next(tokens)
    assert len(workers()) == 1
    executor = weakref.ref(session.pipelined)
    if not forgotten:
        session.close()
        for call in (lambda session: session.prefill([1]), lambda session: session.make_pipeline(PipelineOptions())):
            with pytest.raises(ValueError, match="the session is closed"):
                call(session)
    del session, tokens
    gc.collect()
    assert executor() is None


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
