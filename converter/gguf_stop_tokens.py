"""Which tokens end an answer of a GGUF file: the end-of-generation set of llama.cpp (src/llama-vocab.cpp).

It holds the tokens that the metadata name (eos, eot, eom), tokens known by their text, whatever the metadata say, and
those that part the files of a repository in fill-in-the-middle models.
"""

from collections.abc import Mapping
from typing import Any

from shadowattn.converter.gguf_vocabulary import CONTROL, NORMAL, USER_DEFINED, Vocabulary, named_id

_NAMED = ("eos", "eot", "eom")
END_TEXTS = frozenset((
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
    "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
    "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>", "[e~[",
))  # fmt: skip
# Of each kind at most one is a stop token: the one that the metadata name, else the first of these texts.
_IN_THE_MIDDLE = {
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep": ("<|file_sep|>",),
}
# Beside both tokens of a row, <|end|> ends a channel and not the answer.
_CHANNELS = (
    {"<|return|>", "<|call|>"},
    {"<|return|>", "<|calls|>"},
    {"<|flush|>", "<|call|>"},
    {"<|flush|>", "<|calls|>"},
)
_OTHER_ENDS = {"<|tool_response>", "<|plamo:eos|>"}  # beside one of these, </s> is a word like another


def stop_token_ids(metadata: Mapping[str, Any], vocabulary: Vocabulary | None) -> tuple[int, ...]:
    """Every token that ends an answer: those that the metadata name first, then the others by id. Without a
    vocabulary, whatever ids the metadata name."""
    if vocabulary is None:
        named = [named_id(metadata, name) for name in _NAMED]
        return tuple(dict.fromkeys(index for index in named if index is not None))
    words = _words(vocabulary)
    return tuple(index for index in _candidates(vocabulary) if index not in words)


def types(vocabulary: Vocabulary) -> list[int]:
    """Of every token: as the file says, but a token that ends answers by its text is a control token. One that only
    the metadata name stays what it is."""
    found = list(vocabulary.types)
    middle = {first for named, first in _in_the_middle(vocabulary) if named is None and first is not None}
    for index in _ends(vocabulary) | middle:
        found[index] = CONTROL
    for index, kind in _words(vocabulary).items():
        found[index] = kind
    return found


def _candidates(vocabulary: Vocabulary) -> tuple[int, ...]:
    named = [vocabulary.special_id(name) for name in _NAMED]
    return tuple(dict.fromkeys(index for index in (*named, *sorted(_by_text(vocabulary))) if index is not None))


def _by_text(vocabulary: Vocabulary) -> set[int]:
    middle = {first if named is None else named for named, first in _in_the_middle(vocabulary)}
    return _ends(vocabulary) | {index for index in middle if index is not None}


def _ends(vocabulary: Vocabulary) -> set[int]:
    return {vocabulary.ids[text] for text in END_TEXTS if text in vocabulary.ids}


def _in_the_middle(vocabulary: Vocabulary) -> list[tuple[int | None, int | None]]:
    """Of every kind: the token that the metadata name, and the first of its texts that there is."""
    return [
        (
            vocabulary.special_id(name),
            next((vocabulary.ids[text] for text in texts if text in vocabulary.ids), None),
        )
        for name, texts in _IN_THE_MIDDLE.items()
    ]


def _words(vocabulary: Vocabulary) -> dict[int, int]:
    """The candidates that end no answer beside the others, and what they are instead."""
    texts = {vocabulary.tokens[index] for index in _candidates(vocabulary)}
    words = {"<|end|>": USER_DEFINED} if any(row <= texts for row in _CHANNELS) else {}
    words |= {"</s>": NORMAL} if _OTHER_ENDS & texts else {}
    return {vocabulary.ids[text]: kind for text, kind in words.items() if text in texts}
