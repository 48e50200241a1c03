"""Chunks cover any prompt exactly, only the last is padded, and no cheaper plan exists."""

import pytest

from shadowattn.runtime.executor import chunking
from shadowattn.runtime.executor.chunking import CALL_ROWS, Chunk, plan_chunks, worth_running

LADDERS = [(4, 16), (32, 256), (8, 64, 512), (1, 128), (7,), (1,), (16, 64, 256)]


@pytest.mark.parametrize("ladder", LADDERS, ids=str)
def test_covers_every_length_exactly(ladder: tuple[int, ...]) -> None:
    for tokens in range(1, 3001):
        chunks = plan_chunks(tokens, ladder)
        assert sum(chunk.n_valid for chunk in chunks) == tokens
        assert all(chunk.length in {1, *ladder} for chunk in chunks)
        assert all(chunk.n_valid == chunk.length for chunk in chunks[:-1]), f"only the last may be padded: {chunks}"
        assert 1 <= chunks[-1].n_valid <= chunks[-1].length
        assert chunks == sorted(chunks, key=lambda chunk: -chunk.length)


@pytest.mark.parametrize("ladder", LADDERS, ids=str)
def test_no_plan_is_cheaper(ladder: tuple[int, ...]) -> None:
    """Against a full dynamic programme over all tokens, which the plan only does for the end of the prompt."""
    lengths = {1, *ladder}
    best = [0]
    for tokens in range(1, 1500):
        best.append(min(best[max(0, tokens - length)] + CALL_ROWS + length for length in lengths))
        cost = sum(CALL_ROWS + chunk.length for chunk in plan_chunks(tokens, ladder))
        assert cost == best[tokens], f"{tokens} tokens cost {cost}, {best[tokens]} is possible"


def test_known_plans() -> None:
    assert plan_chunks(0, (32, 256)) == []
    assert plan_chunks(1, (32, 256)) == [Chunk(1, 1)]
    assert plan_chunks(2, (32, 256)) == [Chunk(1, 1), Chunk(1, 1)]
    assert plan_chunks(3, (32, 256)) == [Chunk(32, 3)]
    assert plan_chunks(256, (32, 256)) == [Chunk(256, 256)]
    assert plan_chunks(257, (32, 256)) == [Chunk(256, 256), Chunk(1, 1)]
    assert plan_chunks(300, (32, 256)) == [Chunk(256, 256), Chunk(32, 32), Chunk(32, 12)]
    assert plan_chunks(500, (32, 256)) == [Chunk(256, 256), Chunk(256, 244)]


def test_the_end_of_a_long_prompt_opens_no_graph() -> None:
    opened: set[int] = set()
    assert worth_running(255, (32, 256), opened.__contains__) == (32, 256)
    assert worth_running(256, (32, 256), opened.__contains__) == (256,)
    assert worth_running(8000, (8, 32, 256), {8}.__contains__) == (8, 256)
    assert worth_running(8000, (32, 256), {32}.__contains__) == (32, 256)


def test_a_long_prompt_is_planned_at_once() -> None:
    """From the table that was made for a short one: what is searched does not grow with the prompt."""
    plan_chunks(10, (32, 512))
    made = chunking._cheapest.cache_info().misses
    chunks = plan_chunks(1_000_000, (32, 512))
    assert chunking._cheapest.cache_info().misses == made
    assert sum(chunk.n_valid for chunk in chunks) == 1_000_000


def test_refuses_a_negative_number() -> None:
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        plan_chunks(-1, (4,))
