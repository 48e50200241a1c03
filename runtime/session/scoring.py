"""Hidden rows -> log-probabilities of given tokens, in slices of the bundle's score_<R> graph."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from shadowattn.runtime.executor.engine import Engine
from shadowattn.runtime.session.cached_tokens import CachedTokens


@dataclasses.dataclass(frozen=True)
class ScoreSlice:
    """Rows start .. start+n-1 of a text: logprobs [n] of the token after each row, logits [n,vocab]; float32 copies."""

    start: int
    logprobs: np.ndarray
    logits: np.ndarray


def score_slices(cached: CachedTokens, hidden: Iterable[np.ndarray], targets: list[int]) -> Iterator[ScoreSlice]:
    """hidden: pieces [n_i,D] float32, in order; targets: as many tokens as they have rows together.

    At most R x vocab logits exist at a time.
    """
    pieces = _regroup(hidden, cached.engine.manifest.score_rows)
    start = 0
    while start < len(targets):
        with cached.alone:
            piece = next(pieces)
            scored = _score(cached.engine, piece, targets[start : start + len(piece)], start)
        yield scored
        start += len(piece)


def _score(engine: Engine, piece: np.ndarray, targets: list[int], start: int) -> ScoreSlice:
    count = len(piece)
    with engine.lock:
        runner = engine.runner(f"score_{engine.manifest.score_rows}")
        for name, values in (("hidden", piece), ("targets", targets)):
            runner.inputs[name][0, :count] = values
            runner.inputs[name][0, count:] = 0
        runner.invoke()
        outputs = runner.outputs
        return ScoreSlice(start, outputs["logprobs"][0, :count].copy(), outputs["logits"][0, :count].copy())


def _regroup(pieces: Iterable[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """The same rows in pieces of `rows`; the last may be shorter."""
    waiting: list[np.ndarray] = []
    count = 0
    for piece in pieces:
        waiting.append(piece)
        count += len(piece)
        while count >= rows:
            joined = np.concatenate(waiting)
            yield joined[:rows]
            waiting, count = [joined[rows:]], count - rows
    if count:
        yield np.concatenate(waiting)
