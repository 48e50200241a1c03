"""An answer as text, piece by piece, while its tokens are generated."""

from collections.abc import Iterator, Sequence

from shadowattn.runtime.session.generation import STOP_STRING, Generation
from shadowattn.runtime.text.stop_strings import StopStrings
from shadowattn.runtime.text.streaming import StreamingDetokenizer
from shadowattn.runtime.text.tokenizer import BundleTokenizer


class TextStream(Iterator[str]):
    """The text that follows a prompt, in pieces of whole characters. Made by Session.chat() and Session.complete().

    Iterate it, or read() it at once. Special tokens are left out; a stop string, and what follows it, too.
    """

    def __init__(
        self, generation: Generation, tokenizer: BundleTokenizer, before: Sequence[int], stop_strings: Sequence[str]
    ) -> None:
        """before: token ids that the text goes on from; none if it is a text of its own, as in a chat."""
        self._generation = generation
        self._detokenizer = StreamingDetokenizer(tokenizer.decode, before)
        self._stops = StopStrings(stop_strings)
        self._pieces: list[str] = []
        self._ended = False

    def __next__(self) -> str:
        """Raises as Generation does."""
        while not self._ended:
            if piece := self._read_token():
                self._pieces.append(piece)
                return piece
        raise StopIteration

    def read(self) -> str:
        """The text of all the rest."""
        return "".join(self)

    @property
    def text(self) -> str:
        """What was handed out so far."""
        return "".join(self._pieces)

    @property
    def prompt_ids(self) -> list[int]:
        """Token ids of the prompt, with the chat template's."""
        return self._generation.prompt_ids

    @property
    def token_ids(self) -> list[int]:
        """Token ids so far, those of a stop string among them; text may lag behind by an unfinished character."""
        return self._generation.token_ids

    @property
    def logprobs(self) -> list[float]:
        """Natural logarithms of the probabilities of token_ids. Raises ValueError without logprobs=True."""
        return self._generation.logprobs

    @property
    def stop_reason(self) -> str | None:
        """stop_token, stop_string, max_new_tokens, context_full or cancelled; None before the end."""
        return self._generation.stop_reason

    def cancel(self) -> None:
        """Ends it before the next chunk of the prompt or the next token; for any thread, at any time."""
        self._generation.cancel()

    def close(self) -> None:
        """Ends it now. Raises ValueError while another thread is in next()."""
        self._generation.close()
        self._ended = True

    def __repr__(self) -> str:
        state = self.stop_reason or "not ended; iterate it, or read() it"
        return f"<TextStream: {len(self.token_ids):,} tokens, {state}>"

    def _read_token(self) -> str:
        """What one more token adds to the text, which may be nothing."""
        try:
            token = next(self._generation)
        except StopIteration:
            self._ended = True
            return self._stops.flush()
        text, stopped = self._stops.push(self._detokenizer.push(token))
        if stopped:
            self._generation.end(STOP_STRING)
            self._ended = True
        return text
