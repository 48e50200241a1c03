"""What a caller may give as a prompt: a text, token ids in any usual form, or the messages of a chat."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from shadowattn.models.bundle import Manifest

Prompt = str | Iterable[int] | Iterable[Sequence[int]]
Messages = Iterable[Mapping[str, Any]]
_A_PROMPT = "a text, or token ids (integers, in a list or an array of shape [n] or [1,n])"
_ONE_EACH = "a session holds one; give them one after the other, or open a session for each (they share the weights)"
_CHAT = "wanted the messages of a chat, such as [{'role': 'user', 'content': 'Hello'}]"


def check_text(text: Any) -> str:
    """Raises ValueError for anything but text that can be written as UTF-8."""
    if not isinstance(text, str):
        raise ValueError(f"wanted a text (str), got {type(text).__name__}; generate() takes token ids as well")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"wanted a text, got {text[error.start]!a} at character {error.start}, which is half of a character; "
            "decode its bytes with the right encoding"
        ) from None
    return text


def token_list(prompt: Any) -> list[int]:
    """Token ids from a list or another iterable of integers, an array of any library of shape [n] or [1,n], or a list
    of one such row. Raises ValueError."""
    if isinstance(prompt, Mapping):
        keys = ", ".join(map(repr, prompt))
        raise ValueError(f"wanted {_A_PROMPT}, got {type(prompt).__name__} with {keys}; give its token ids alone")
    if isinstance(prompt, (bytes, bytearray)):
        raise ValueError(f"wanted {_A_PROMPT}, got {type(prompt).__name__}; decode it to a str first")
    if hasattr(prompt, "__array__"):
        return _of_array(prompt)
    try:
        items = list(prompt)
    except TypeError:
        raise ValueError(f"wanted {_A_PROMPT}, got {type(prompt).__name__}") from None
    if len(items) == 1 and _is_row(items[0]):
        return token_list(items[0])
    return [_of_item(item, index, len(items)) for index, item in enumerate(items)]


def check_ids(ids: list[int], manifest: Manifest, most: int, kept: int = 0) -> list[int]:
    """The same token ids, if they are of the vocabulary and fit into `most` positions after `kept`. Raises
    ValueError."""
    if not ids:
        raise ValueError("the prompt is empty: at least one token is needed")
    check_vocabulary(ids, manifest)
    check_room(len(ids), kept, most)
    return ids


def check_vocabulary(ids: list[int], manifest: Manifest) -> None:
    """Raises ValueError that names the first id outside."""
    vocab = manifest.model.vocab_size
    for index, token in enumerate(ids):
        if not 0 <= token < vocab:
            raise ValueError(f"token id {token} at index {index} is outside the vocabulary of {vocab}")


def check_room(count: int, kept: int, most: int) -> None:
    """Raises ValueError unless `count` more positions fit."""
    if kept + count > most:
        advice = "rewind() or reset() the session" if kept else "or convert the model with a larger --max_length"
        raise ValueError(f"{count} tokens do not fit: {kept} of {most} positions are used; shorten the text, {advice}")


def check_messages(messages: Any) -> list[dict[str, Any]]:
    """The messages as a chat template takes them. Raises ValueError that names what is wrong with which."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        raise ValueError(f"{_CHAT}, got {type(messages).__name__}")
    found = list(messages)
    if not found:
        raise ValueError(f"{_CHAT}, got none")
    for index, message in enumerate(found):
        if isinstance(message, (list, tuple)):
            raise ValueError(f"{_CHAT}, got a batch of {len(found)} chats; {_ONE_EACH}")
        if not isinstance(message, Mapping):
            raise ValueError(f"{_CHAT}, got {type(message).__name__} at index {index}")
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                got = type(message[key]).__name__ if key in message else "nothing"
                raise ValueError(f"{_CHAT}, got {got} for {key!r} of the message at index {index}; give a str")
            check_text(message[key])
    return [dict(message) for message in found]


def check_stop_ids(ids: Any, manifest: Manifest) -> list[int]:
    """Several token ids of the vocabulary, or none at all. Raises ValueError."""
    try:
        found = [token_id(token) for token in ids]
    except (TypeError, ValueError):
        raise ValueError(
            f"stop_token_ids must be token ids, such as [2], got {ids!r}; texts are given as stop_strings"
        ) from None
    check_vocabulary(found, manifest)
    return found


def check_stop_strings(strings: Any) -> tuple[str, ...]:
    """One string or several. Raises ValueError."""
    found = [strings] if isinstance(strings, str) or not isinstance(strings, Iterable) else list(strings)
    if not all(isinstance(text, str) and text for text in found):
        raise ValueError(f"stop_strings must be a string or several, none of them empty, got {strings!r}")
    return tuple(found)


def one_token(value: Any) -> int:
    """What decode takes. Raises ValueError."""
    try:
        return token_id(value)
    except ValueError as error:
        raise ValueError(
            f"decode takes one token id ({error}); prefill() appends several, tokenizer.decode() makes text of them"
        ) from None


def token_id(value: Any, where: str = "") -> int:
    """Raises ValueError for anything but an integer."""
    try:
        if not isinstance(value, (bool, np.bool_)):
            return operator.index(value)
    except TypeError:
        pass
    raise ValueError(f"token ids must be integers, got {value!r}{where}")


def _of_array(prompt: Any) -> list[int]:
    try:
        array = np.asarray(prompt)
    except (TypeError, ValueError, RuntimeError) as error:  # an array on a GPU, say
        raise ValueError(f"wanted {_A_PROMPT}, got {type(prompt).__name__}: {error}") from None
    if array.ndim == 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 2:
        raise ValueError(f"got a batch of {array.shape[0]} prompts (shape {list(array.shape)}); {_ONE_EACH}")
    if array.ndim != 1:
        raise ValueError(f"wanted {_A_PROMPT}, got an array of shape {list(array.shape)}")
    if array.size and array.dtype.kind not in "iu":
        hint = "; an attention mask is not wanted" if array.dtype.kind == "b" else ""
        raise ValueError(f"token ids must be integers, got an array of {array.dtype}{hint}")
    return [int(token) for token in array]


def _of_item(item: Any, index: int, count: int) -> int:
    if _is_row(item):
        raise ValueError(f"got a batch of {count} prompts; {_ONE_EACH}")
    advice = "; give a text as one str" if isinstance(item, str) else ""
    advice = "; session.chat() takes messages" if isinstance(item, Mapping) else advice
    return token_id(item, f" at index {index}{advice}")


def _is_row(item: Any) -> bool:
    return isinstance(item, (list, tuple)) or getattr(item, "ndim", 0) > 0
