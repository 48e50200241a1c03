"""Streaming text: whatever the tokens split, the pieces join to the whole and no half character is shown."""

import itertools
from collections.abc import Sequence

import pytest
import tokenizers
from tiny_tokenizer import byte_level_tokenizer, sentencepiece_tokenizer

from shadowattn.runtime.text.streaming import StreamingDetokenizer

TEXTS = ["naïve façade", "你好世界", "a🙂b👩‍👩‍👧c", "Ünï 🤖é", "नमस्ते"]


def stream(tokenizer: tokenizers.Tokenizer, token_ids: list[int], before: tuple[int, ...] = ()) -> list[str]:
    detokenizer = StreamingDetokenizer(lambda ids: tokenizer.decode(ids, skip_special_tokens=True), before)
    return [detokenizer.push(token) for token in token_ids]


def byte_ids(tokenizer: tokenizers.Tokenizer, data: bytes) -> list[int]:
    """A token per byte."""
    return [token_id(tokenizer, byte_level_alphabet()[byte]) for byte in data]


def token_id(tokenizer: tokenizers.Tokenizer, word: str) -> int:
    found = tokenizer.token_to_id(word)
    assert found is not None
    return int(found)


def byte_level_alphabet() -> list[str]:
    """The printable stand-in of each byte in a byte-level vocabulary."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = itertools.count(256)
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


@pytest.mark.parametrize("text", TEXTS)
def test_byte_by_byte_joins_to_the_text(text: str) -> None:
    tokenizer = byte_level_tokenizer()
    pieces = stream(tokenizer, byte_ids(tokenizer, text.encode()))
    assert "".join(pieces) == text
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


@pytest.mark.parametrize("text", TEXTS)
def test_every_split_into_two_tokens(text: str) -> None:
    """Tokens that end at any byte, characters or not: made by a vocabulary with exactly these two."""
    data = text.encode()
    alphabet = byte_level_alphabet()
    for cut in range(1, len(data)):
        words = ["".join(alphabet[byte] for byte in part) for part in (data[:cut], data[cut:])]
        tokenizer = byte_level_tokenizer(extra=words)
        pieces = stream(tokenizer, [token_id(tokenizer, word) for word in words])
        assert "".join(pieces) == text
        assert "\N{REPLACEMENT CHARACTER}" not in pieces[0] + pieces[1]
        whole = data[:cut].decode(errors="ignore")
        assert pieces[0] == whole  # what is whole is shown at once


def test_an_unfinished_character_at_the_end_is_never_shown() -> None:
    tokenizer = byte_level_tokenizer()
    assert "".join(stream(tokenizer, byte_ids(tokenizer, "ok 🙂".encode()[:-1]))) == "ok "


def test_invalid_bytes_are_shown_once_and_do_not_stop_the_stream() -> None:
    tokenizer = byte_level_tokenizer()
    data = b"a\xff" + b"bc" + b"\x80" * 12 + b"d"
    assert "".join(stream(tokenizer, byte_ids(tokenizer, data))) == data.decode(errors="replace")


@pytest.mark.parametrize("text", ["Hello world", "one  two   three", "tab\tand\nnewline \n x", "x 你 y🙂 z"])
def test_sentencepiece_spaces_stay(text: str) -> None:
    tokenizer = sentencepiece_tokenizer()
    token_ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(token_ids) == text
    assert "".join(stream(tokenizer, token_ids)) == text


def test_special_tokens_in_between_do_not_eat_a_space() -> None:
    tokenizer = sentencepiece_tokenizer()
    hello, world = (tokenizer.encode(word, add_special_tokens=False).ids for word in ("Hello", "world"))
    token_ids = [*hello, token_id(tokenizer, "</s>"), *world]
    assert "".join(stream(tokenizer, token_ids)) == tokenizer.decode(token_ids) == "Hello world"


def test_a_continuation_keeps_its_leading_space() -> None:
    tokenizer = sentencepiece_tokenizer()
    prompt = tokenizer.encode("Hello", add_special_tokens=False).ids
    world = tokenizer.encode("world", add_special_tokens=False).ids
    assert "".join(stream(tokenizer, world, tuple(prompt))) == " world"
    assert "".join(stream(tokenizer, world)) == "world"


def test_a_long_stream_decodes_only_its_end() -> None:
    tokenizer = byte_level_tokenizer()
    longest = 0

    def decode(ids: Sequence[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return str(tokenizer.decode(list(ids)))

    detokenizer = StreamingDetokenizer(decode)
    token_ids = byte_ids(tokenizer, ("long text 🙂 " * 50).encode())
    assert "".join(map(detokenizer.push, token_ids)) == "long text 🙂 " * 50
    assert longest < 12


def test_many_tokens_that_end_inside_characters() -> None:
    """Every token but the last leaves a character unfinished: valid text however long."""
    text = "アイス" * 8 + "."
    data = text.encode()
    cuts = [0, 1, *range(4, len(data) - 1, 3), len(data)]
    words = [data[start:end] for start, end in itertools.pairwise(cuts)]
    detokenizer = StreamingDetokenizer(lambda ids: b"".join(words[i] for i in ids).decode(errors="replace"))
    pieces = [detokenizer.push(number) for number in range(len(words))]
    assert "".join(pieces) == text
    assert not any("�" in piece for piece in pieces)


def test_bytes_of_a_decoder_that_spoils_whole_runs() -> None:
    """SentencePiece byte fallback: a run of byte tokens that is no UTF-8 becomes U+FFFD, every byte of it."""

    def decode(ids: Sequence[int]) -> str:
        try:
            return bytes(ids).decode()
        except UnicodeDecodeError:
            return "�" * len(ids)

    text = "😀" * 6
    detokenizer = StreamingDetokenizer(decode)
    assert "".join(map(detokenizer.push, text.encode())) == text
