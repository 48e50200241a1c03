"""Token after token: sampled from the logits, decoded, until something ends it."""

import dataclasses
import numbers
import threading
from collections.abc import Iterable, Iterator
from typing import TypedDict

import numpy as np

from shadowattn.runtime.executor.chunking import Chunk
from shadowattn.runtime.session.cached_tokens import CachedTokens, CancelledError, Progress
from shadowattn.runtime.session.sampler import Sampler

# Why an answer ended.
STOP_TOKEN, STOP_STRING, MAX_NEW_TOKENS = "stop_token", "stop_string", "max_new_tokens"
CONTEXT_FULL, CANCELLED = "context_full", "cancelled"


class GenerateOptions(TypedDict, total=False):
    """Keywords of Session.generate() that chat() and complete() pass on."""

    temperature: float | None
    top_k: int | None
    top_p: float | None
    repetition_penalty: float | None
    seed: int | None
    stop_token_ids: Iterable[int] | None
    logprobs: bool
    on_progress: Progress | None


@dataclasses.dataclass(frozen=True)
class GenerationPlan:
    """What Session.generate() was asked for. max_new_tokens None: as many as fit. Raises ValueError."""

    prompt_ids: list[int]
    max_new_tokens: int | None
    sampler: Sampler
    stop_token_ids: frozenset[int]
    logprobs: bool
    on_progress: Progress | None

    def __post_init__(self) -> None:
        most = self.max_new_tokens
        if most is not None and (not isinstance(most, numbers.Integral) or isinstance(most, bool)):
            raise ValueError(f"max_new_tokens must be an integer, got {most!r}; None allows as many as fit")
        if most is not None and most < 1:
            raise ValueError(f"max_new_tokens must be positive, got {most}")
        if not isinstance(self.logprobs, bool):
            raise ValueError(f"logprobs must be True or False, got {self.logprobs!r}; those of other tokens: prefill()")


class Generation(Iterator[int]):
    """The tokens that follow a prompt, one for each next(). Made by Session.generate()."""

    def __init__(self, cached: CachedTokens, plan: GenerationPlan, cancelled: threading.Event) -> None:
        self._cached = cached
        self._plan = plan
        self._cancelled = cancelled
        self._token_ids: list[int] = []
        self._logprobs: list[float] = []
        self._revision = 0  # of the cache, when the latest token was handed out
        self._ended = False
        self._stop_reason: str | None = None

    def __next__(self) -> int:
        """Raises ValueError in a second thread, RuntimeError if the session's cache was changed meanwhile."""
        with self._cached.alone:
            if self._ended:
                raise StopIteration
            self._ended = True  # whatever is raised from here on: there is no going on after it
            try:
                logits = self._logits()
            except CancelledError:
                self._stop_reason = CANCELLED
                raise StopIteration from None
            token = self._plan.sampler(logits, self._cached.tokens)
            if token in self._plan.stop_token_ids:
                self._stop_reason = STOP_TOKEN
                raise StopIteration
            if self._plan.logprobs:
                self._logprobs.append(logprob(logits, token))
            self._token_ids.append(token)
            if len(self._token_ids) == self._plan.max_new_tokens:
                self._stop_reason = MAX_NEW_TOKENS
            elif self._cached.is_full:
                self._stop_reason = CONTEXT_FULL
            self._ended = self._stop_reason is not None
            self._revision = self._cached.revision
            return token

    @property
    def prompt_ids(self) -> list[int]:
        """Token ids of the prompt (a copy)."""
        return list(self._plan.prompt_ids)

    @property
    def token_ids(self) -> list[int]:
        """Token ids so far (a copy), without the prompt's and without a stop token."""
        return list(self._token_ids)

    @property
    def logprobs(self) -> list[float]:
        """The natural logarithm of the probability that the model gave each of token_ids (a copy): the softmax of its
        logits, before all that sampling does to them. Raises ValueError if they were not asked for."""
        if not self._plan.logprobs:
            raise ValueError("log-probabilities were not asked for; pass logprobs=True")
        return list(self._logprobs)

    @property
    def stop_reason(self) -> str | None:
        """stop_token, stop_string, max_new_tokens, context_full or cancelled; None before the end."""
        return self._stop_reason

    def cancel(self) -> None:
        """Ends it before the next chunk of the prompt or the next token; for any thread, at any time."""
        self._cancelled.set()

    def close(self) -> None:
        """Ends it now. The session keeps its tokens. Raises ValueError while another thread is in next()."""
        self.end(self._stop_reason)

    def end(self, reason: str | None) -> None:
        """Ends it for a reason that the reader of the tokens knows. Raises ValueError as close()."""
        with self._cached.alone:
            self._ended = True
            self._stop_reason = reason

    def _logits(self) -> np.ndarray:
        """float32 [vocab], from which the next token is drawn. Raises CancelledError."""
        cached = self._cached
        if not self._token_ids:
            rest = cached.reuse(self._plan.prompt_ids)
            for result in cached.advance(rest, self._plan.on_progress, self._cancelled, cached.revision):
                logits = result.logits
            return logits
        if self._cancelled.is_set():
            raise CancelledError
        cached.check_unchanged(self._revision)
        return cached.step(Chunk(1, 1), self._token_ids[-1:]).logits


def logprob(logits: np.ndarray, token: int) -> float:
    """logits [vocab] -> log of the softmax at a token."""
    shifted = logits.astype(np.float64) - float(logits.max())
    return float(shifted[token] - np.log(np.exp(shifted).sum()))
