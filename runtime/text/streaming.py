"""From a stream of token ids to a stream of text: whole characters only, spaces as they will stand in the end."""

from collections.abc import Callable, Sequence

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what a decoder writes for bytes that are no whole character
_CONTEXT = 64  # tokens of the prompt that decide whether the first token keeps its leading space
# U+FFFD at the end that may still become text: 3 bytes of an unfinished character, and, where a decoder spoils a whole
# run of byte tokens for one unfinished character, the 4 bytes of the one before it. More can only be invalid bytes.
_LONGEST_TAIL = 7


class StreamingDetokenizer:
    """Decodes tokens one at a time. The pieces returned join to the text of all tokens.

    A character split over tokens is held back until it is whole; one that never becomes whole at the end of the stream
    is never shown. `before`: the token ids in front of the stream. SentencePiece-style decoders drop the space in
    front of a text's first word; with `before` the first token is not the first. Leave it empty for an answer that is
    a text of its own (chat).
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], before: Sequence[int] = ()) -> None:
        self._decode = decode
        self._window = list(before)[-_CONTEXT:]  # tokens that still matter: the last clean ones and all after them
        self._clean = len(self._window)  # tokens of the window whose text was returned in full
        self._returned = len(decode(self._window)) if self._window else 0  # characters of the window's text

    def push(self, token_id: int) -> str:
        """The text that this token completes, "" while a character is unfinished."""
        self._window.append(token_id)
        text = self._decode(self._window)
        whole = text.rstrip(_UNFINISHED)
        if len(text) - max(len(whole), self._returned) > _LONGEST_TAIL:
            whole = text  # invalid bytes, not an unfinished character
        piece = whole[self._returned :]
        self._returned = max(self._returned, len(whole))
        if len(whole) == len(text):
            self._forget()
        return piece

    def _forget(self) -> None:
        """Keeps only the tokens since the last clean point: they tell the next token that it is not the first."""
        recent = self._window[self._clean :]
        if text := self._decode(recent):  # a special token or a lone space has no text: keep what is before it
            self._window = recent
            self._returned = len(text)
        self._clean = len(self._window)
