"""Prompt length -> chunk lengths: which prefill graphs to run, one after the other, so that little work is padding."""

import dataclasses
import functools
from collections.abc import Callable

# What a call costs besides its rows, in rows: every call reads all weights once. Measured with SmolLM2-135M in INT8 on
# one thread of a Xeon: 28 ms for a call and 1.6 ms for each row.
CALL_ROWS = 16


@dataclasses.dataclass(frozen=True)
class Chunk:
    """One call: the graph of `length` rows (T), of which the first n_valid are real."""

    length: int
    n_valid: int


def worth_running(tokens: int, ladder: tuple[int, ...], is_open: Callable[[int], bool]) -> tuple[int, ...]:
    """The chunk lengths to plan with. A graph that is not open yet is not opened for the end of a longer prompt: it
    packs another copy of the weights, which takes longer than the padding that it saves, and stays in memory."""
    return tuple(length for length in ladder if tokens < ladder[-1] or length == ladder[-1] or is_open(length))


def plan_chunks(tokens: int, ladder: tuple[int, ...]) -> list[Chunk]:
    """Chunks whose n_valid add up to `tokens`, longest first; only the last may be padded.

    ladder: the bundle's prefill chunk lengths, ascending; 1 (decode) is always there too. The cost of a call is
    CALL_ROWS + its length; the sum is the least possible for the last two longest chunks' worth of tokens.
    """
    if tokens < 0:
        raise ValueError(f"number of tokens must not be negative, got {tokens}")
    lengths = tuple(sorted({1, *ladder}))
    longest = lengths[-1]
    whole = max(0, tokens // longest - 1)
    chunks = [Chunk(longest, longest)] * whole
    left = tokens - whole * longest
    for length in sorted(_cheapest(lengths)[left], reverse=True):
        chunks.append(Chunk(length, min(length, left)))
        left -= chunks[-1].n_valid
    return chunks


@functools.lru_cache(maxsize=16)
def _cheapest(lengths: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """For every number of tokens below twice the longest chunk, the cheapest chunk lengths."""
    best: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    for tokens in range(1, 2 * lengths[-1]):
        options = []
        for length in lengths:
            cost, rest = best[max(0, tokens - length)]
            options.append((cost + CALL_ROWS + length, (*rest, length)))
        best.append(min(options))
    return tuple(lengths_of for _, lengths_of in best)
