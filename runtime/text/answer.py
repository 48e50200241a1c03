"""One answer: token ids out of a session, as text while they come, with the times that people compare."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from shadowattn.runtime.text.streaming import StreamingDetokenizer
from shadowattn.runtime.text.tokenizer import BundleTokenizer

INTERRUPTED = "interrupted"  # beside a session's stop reasons


class Generator(Protocol):
    """What an answer needs of a session."""

    @property
    def max_length(self) -> int: ...

    @property
    def stop_reason(self) -> str | None: ...

    @property
    def generate(self) -> Callable[..., Iterator[int]]:
        """generate(token_ids, max_new_tokens, on_progress=, and the fields of Sampling)."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is drawn; temperature 0 takes the most likely one, repetition_penalty 1 changes nothing."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    repetition_penalty: float = 1.0


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came out. ttft: seconds to the first token; tpot: milliseconds per further token (None: without one)."""

    token_ids: tuple[int, ...]
    text: str
    prompt_tokens: int
    stopped_by: str
    ttft: float | None
    tpot: float | None


class AnswerStream:
    """Runs one answer and hands its text to `write` as it comes; what was said until a Ctrl-C is kept in `answer`."""

    def __init__(self, session: Generator, tokenizer: BundleTokenizer, write: Callable[[str], None]) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._write = write

    def run(
        self,
        prompt_ids: Sequence[int],
        max_new_tokens: int,
        sampling: Sampling,
        *,
        continues_prompt: bool,
        on_progress: Callable[[int, int], None] | None = None,
        on_interrupt: str = "raise",
    ) -> Answer:
        """Answers a prompt.

        continues_prompt: the text goes on where the prompt ends (else it is a text of its own, as in a chat).
        on_interrupt: "raise" lets Ctrl-C through; "keep" ends the answer there.
        """
        check_prompt_fits(len(prompt_ids), self._session.max_length)
        detokenizer = StreamingDetokenizer(self._tokenizer.decode, prompt_ids if continues_prompt else ())
        pieces: list[str] = []
        token_ids: list[int] = []
        times = [time.perf_counter()]
        stopped_by = None
        stream = self._session.generate(
            prompt_ids, max_new_tokens, **dataclasses.asdict(sampling), on_progress=on_progress
        )
        try:
            for token_id in stream:
                times.append(time.perf_counter())
                token_ids.append(token_id)
                if piece := detokenizer.push(token_id):
                    pieces.append(piece)
                    self._write(piece)
            stopped_by = self._session.stop_reason
        except KeyboardInterrupt:
            if on_interrupt == "raise":
                raise
        stopped_by = stopped_by or INTERRUPTED
        return Answer(tuple(token_ids), "".join(pieces), len(prompt_ids), stopped_by, *_latencies(times))


class PromptTooLongError(ValueError):
    """A prompt needs more positions than the session has."""

    def __init__(self, prompt_tokens: int, max_length: int) -> None:
        super().__init__(
            f"the prompt has {prompt_tokens:,} tokens, but this session holds {max_length:,}; shorten the prompt, "
            "start the chat anew, or convert the model with a larger --max_length"
        )
        self.prompt_tokens = prompt_tokens
        self.max_length = max_length


def check_prompt_fits(prompt_tokens: int, max_length: int) -> None:
    """Raises ValueError if there is no prompt, PromptTooLongError if it does not fit. The first token of an answer
    needs no position of its own: its logits are those after the prompt."""
    if prompt_tokens == 0:
        raise ValueError("the prompt is empty; wanted at least one token, give a text with --prompt or --prompt_file")
    if prompt_tokens > max_length:
        raise PromptTooLongError(prompt_tokens, max_length)


def _latencies(times: Sequence[float]) -> tuple[float | None, float | None]:
    """(TTFT in seconds, TPOT in milliseconds) from the start and the arrival of every token."""
    ttft = times[1] - times[0] if len(times) > 1 else None
    tpot = 1000 * (times[-1] - times[1]) / (len(times) - 2) if len(times) > 2 else None
    return ttft, tpot
