"""The pipelined executor's results do not depend on planner, grouping, buffers, threads or timing: the same bits."""

import functools
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from claiming import ClaimingLibrary
from pipelines import Outcome, one_after_the_other, open_pipelined, outcome, run

from shadowattn.runtime.executor.stages import Stages
from shadowattn.runtime.npu.choice import NpuChoice
from shadowattn.runtime.npu.runner import EstimateRunner
from shadowattn.runtime.pipeline.options import PipelineOptions
from shadowattn.runtime.scheduling.planners import PLANNERS

_LONG = 150  # nine chunks of 16, the last of them padded, and across a bucket's border
_SCALES = ("rank", "nearest", "log", "one")
_DEPTHS = (1, 2, 3)
Wanted = Callable[..., Outcome]


@pytest.fixture(scope="module")
def wanted(wide: Path, text: list[int]) -> Wanted:
    """(scales, mode, tokens) -> what comes of them one after the other."""

    @functools.cache
    def find(scales: str = "rank", mode: str = "shadow", length: int = _LONG) -> Outcome:
        return one_after_the_other(wide, text[:length], scales, mode)

    return find


@pytest.fixture
def shaken(monkeypatch: pytest.MonkeyPatch) -> random.Random:
    """Both workers sleep up to 2 ms around a third of their steps."""
    seed = random.SystemRandom().randrange(2**31)
    print("seed", seed)
    dice = random.Random(seed)

    def shake(function: Callable[..., None]) -> Callable[..., None]:
        def shaking(*arguments: object) -> None:
            for step in (lambda: None, lambda: function(*arguments), lambda: None):
                step()
                if dice.random() < 0.3:
                    time.sleep(dice.uniform(0, 2e-3))

        return shaking

    for owner, method in ((EstimateRunner, "invoke"), (Stages, "attend")):
        monkeypatch.setattr(owner, method, shake(getattr(owner, method)))
    return dice


def test_the_oracle_depends_on_scales_and_mode(wanted: Wanted) -> None:
    """Otherwise equality would say nothing."""
    found = [wanted("rank"), wanted("nearest"), wanted("one"), wanted("rank", "shadow_paper")]
    for index, one in enumerate(found):
        assert not any(one.same_bits(other) for other in found[:index])


@pytest.mark.parametrize("mode", ["shadow", "shadow_paper"])
@pytest.mark.parametrize("planner", [*PLANNERS, "off"])
def test_planners(wide: Path, text: list[int], wanted: Wanted, planner: str, mode: str) -> None:
    found = run(wide, text[:_LONG], PipelineOptions(scales="rank", planner=planner), mode=mode)
    assert found.same_bits(wanted("rank", mode))


@pytest.mark.parametrize("mode", ["shadow", "shadow_paper"])
@pytest.mark.parametrize("scales", _SCALES)
def test_scales(wide: Path, text: list[int], wanted: Wanted, scales: str, mode: str) -> None:
    """With a grid, what may share a launch differs from layer to layer and chunk to chunk."""
    with open_pipelined(wide, PipelineOptions(scales=scales), mode=mode) as session:
        assert outcome(session, text[:_LONG]).same_bits(wanted(scales, mode))
        record = session.pipelined.record
        chunks = len(record.chunks)
        assert chunks > 8
        assert (record.buckets.sum(-1) == chunks).all()
        assert record.buckets.shape == (2, 6, 10)
        if scales == "rank":
            assert (record.buckets[..., 0] == chunks).all()
        elif scales == "one":
            assert (record.buckets[..., 1 + 4] == chunks).all()
        else:
            assert not record.buckets[..., 0].any()
            assert (record.buckets.sum((0, 1)) > 0).sum() > 1


@pytest.mark.parametrize("heads", [(1,), (2,), (4, 2), (6,), (1, 4), (1, 2, 4, 6), None], ids=str)
def test_launch_sizes(wide: Path, text: list[int], wanted: Wanted, heads: tuple[int, ...] | None) -> None:
    with open_pipelined(wide, PipelineOptions(heads=heads)) as session:
        assert outcome(session, text[:_LONG]).same_bits(wanted())
        if heads == (6,):
            launches = {chunk.launches for chunk in session.pipelined.record.chunks}
            assert launches == {session.manifest.model.num_layers}


@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("depth", [*_DEPTHS, 10**6])
def test_buffers_and_threads(wide: Path, text: list[int], wanted: Wanted, depth: int, num_threads: int) -> None:
    """A million buffers are no more than heads."""
    with open_pipelined(wide, PipelineOptions(depth=depth, heads=(1, 2)), num_threads) as session:
        assert outcome(session, text[:_LONG]).same_bits(wanted())
        assert session.pipelined.overlaps == (num_threads > 1)


@pytest.mark.parametrize("length", [17, 21, 32, 63, 64, 65, 66, 100, 200])
def test_lengths(wide: Path, text: list[int], wanted: Wanted, length: int) -> None:
    """Whole and padded last chunks, shorter chunks, borders of buckets."""
    assert run(wide, text[:length], PipelineOptions(scales="nearest")).same_bits(wanted("nearest", "shadow", length))


@pytest.mark.parametrize("mode", ["shadow", "shadow_paper"])
def test_whatever_the_timing(wide: Path, text: list[int], wanted: Wanted, shaken: random.Random, mode: str) -> None:
    """Random ways to run, with random sleeps in both workers."""
    for _ in range(8):
        scales, depth = shaken.choice(_SCALES), shaken.choice(_DEPTHS)
        heads = shaken.choice([(1,), (1, 2), (1, 4), None])
        options = PipelineOptions(scales=scales, planner=shaken.choice(list(PLANNERS)[:4]), heads=heads, depth=depth)
        num_threads = shaken.choice([2, 3])
        print(mode, options, num_threads)
        found = run(wide, text[:70], options, num_threads, mode=mode)
        assert found.same_bits(wanted(scales, mode, 70))


def test_what_a_graph_held_before_does_not_matter(wide: Path, text: list[int], wanted: Wanted) -> None:
    """Keys beyond the cache's end stay in a graph's input from a longer text, or from anything."""
    with open_pipelined(wide, PipelineOptions(scales="rank")) as session:
        session.prefill(text)
        runners = list(session._engine.estimator(PipelineOptions().npu)._runners.values())
        for garbage in (-128, 127):
            for runner in runners:
                runner.q_i8[...] = runner.k_i8[...] = runner.scores_i8[...] = garbage
            assert outcome(session, text[:21]).same_bits(wanted("rank", "shadow", 21))


def test_through_a_delegate(wide: Path, text: list[int], wanted: Wanted, claiming: ClaimingLibrary) -> None:
    """The test delegate computes as the host does; beside it one thread is enough to overlap."""
    npu = NpuChoice.parse(claiming.npu("delay_ms=1"), require_npu=True)
    with open_pipelined(wide, PipelineOptions(npu, scales="log", depth=3), num_threads=1) as session:
        assert session.pipelined.overlaps
        assert outcome(session, text[:70]).same_bits(wanted("log", "shadow", 70))


def test_an_emulated_launch_changes_time_alone(wide: Path, text: list[int], wanted: Wanted) -> None:
    with open_pipelined(wide, PipelineOptions(heads=(6,), launch_ms=3)) as session:
        assert outcome(session, text[:70]).same_bits(wanted("rank", "shadow", 70))
        assert all(chunk.estimate > 3e-3 * chunk.launches for chunk in session.pipelined.record.chunks)


# --- sharing ---


def test_two_sessions_in_two_threads(wide: Path, text: list[int], wanted: Wanted, shaken: random.Random) -> None:
    """They use the same estimate graphs, and take turns chunk by chunk."""
    options = [PipelineOptions(scales="rank", depth=3), PipelineOptions(scales="nearest", heads=(1, 2), depth=1)]
    found: list[Outcome | None] = [None, None]

    def work(number: int) -> None:
        found[number] = run(wide, text[:70], options[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, option in zip(found, options, strict=True):
        assert one is not None
        assert one.same_bits(wanted(option.scales, "shadow", 70))


def test_ways_to_run_alternate_in_one_session(wide: Path, text: list[int], wanted: Wanted) -> None:
    with open_pipelined(wide, PipelineOptions(planner="off")) as session:
        ways = [session.make_pipeline(PipelineOptions(planner=name, depth=3)) for name in ("best", "greedy")]
        logits = None
        for start in range(0, 149, 16):
            session.use_pipeline(ways[start // 16 % 2])
            logits = session.prefill(text[start : min(start + 16, 149)])
        assert logits is not None
        assert np.array_equal(session.decode(text[149]), wanted().decoded[0])
        assert [len(way.record.chunks) for way in ways] == [5, 5]


def test_a_forked_child_refuses_and_opens_its_own(wide: Path, text: list[int], wanted: Wanted) -> None:
    expected = wanted("rank", "shadow", 70)
    with open_pipelined(wide, PipelineOptions(scales="rank")) as session:
        session.prefill(text[:40])
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with pytest.raises(RuntimeError, match=r"before os\.fork"):
                    session.prefill(text[40:80])
                code = 0 if run(wide, text[:70], PipelineOptions(scales="rank")).same_bits(expected) else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert outcome(session, text[:70]).same_bits(expected)
