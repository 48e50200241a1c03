"""The tokenizer inside a GGUF file -> tokenizer.json and what belongs to it, as llama.cpp would cut a text.

Only what is in the file counts: transformers, which also reads the files beside it, has no part in this.
"""

import json
from collections.abc import Callable
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from shadowattn.converter import sentencepiece_merges
from shadowattn.converter.checkpoint import TokenizerFiles
from shadowattn.converter.gguf_pretokenizers import DEFAULT, KNOWN, PreTokenizer
from shadowattn.converter.gguf_stop_tokens import types
from shadowattn.converter.gguf_vocabulary import (
    BYTE_LEVEL,
    CONTROL,
    PREFIX,
    SENTENCEPIECE,
    UNKNOWN,
    USER_DEFINED,
    Vocabulary,
)

# Name in a chat template -> what the metadata call it.
_SPECIAL = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
_NAMED = ("bos", "eos", "eot", "eom", "padding", "unknown", "fim_pad", "fim_rep", "fim_sep")
_TEMPLATE = "tokenizer.chat_template"
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


def tokenizer_files(vocabulary: Vocabulary) -> TokenizerFiles:
    """The file's tokenizer. Raises ValueError if its type cannot be converted or the file is damaged."""
    try:
        tokenizer = _builder(vocabulary)(vocabulary)
        _add_tokens(tokenizer, vocabulary)
        text = _with_ends(tokenizer, vocabulary)
    except ValueError:
        raise
    except Exception as error:  # the library raises plain Exception
        raise ValueError(
            f"{vocabulary.path}: the tokenizer ({vocabulary.kind}) cannot be converted "
            f"({type(error).__name__}: {error!s:.200}); convert the model's Hugging Face directory instead"
        ) from error
    if vocabulary.kind == SENTENCEPIECE:
        sentencepiece_merges.check(vocabulary, Tokenizer.from_str(text))
    template = vocabulary.metadata.get(_TEMPLATE)
    return TokenizerFiles(
        text,
        template if isinstance(template, str) else None,
        special_tokens(vocabulary),
        _warnings(vocabulary),
        chat_adds_bos=_adds_bos(vocabulary),
    )


def special_tokens(vocabulary: Vocabulary) -> dict[str, str]:
    """Name in a chat template -> text of the token."""
    found = {name: vocabulary.special_id(key) for name, key in _SPECIAL.items()}
    return {name: vocabulary.tokens[index] for name, index in found.items() if index is not None}


def _builder(vocabulary: Vocabulary) -> Callable[[Vocabulary], Tokenizer]:
    builders = {BYTE_LEVEL: _byte_level, SENTENCEPIECE: _sentencepiece}
    if vocabulary.kind not in builders:
        raise ValueError(
            f"{vocabulary.path}: {PREFIX}model is {vocabulary.kind!r}, and only {' and '.join(builders)} can be "
            "converted; convert the model's Hugging Face directory instead"
        )
    return builders[vocabulary.kind]


def _byte_level(vocabulary: Vocabulary) -> Tokenizer:
    merges = vocabulary.texts("merges")
    if merges is None:
        raise ValueError(f"{vocabulary.path}: the metadata lack {PREFIX}merges; get the file again")
    pairs = [(first, second) for first, _, second in (merge.partition(" ") for merge in merges)]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary.ids, merges=pairs))
    _pre_tokenizer(vocabulary).apply(tokenizer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(vocabulary: Vocabulary) -> Tokenizer:
    """Spaces become part of the tokens, and one is put before every stretch of text, whatever it begins with."""
    unknown = vocabulary.special_id("unknown")
    model = models.BPE(
        vocab=vocabulary.ids,
        merges=sentencepiece_merges.merges(vocabulary),
        byte_fallback=True,
        unk_token=None if unknown is None else vocabulary.tokens[unknown],
    )
    tokenizer = Tokenizer(model)
    spaces: list[Any] = [normalizers.Replace(" ", _SPACE)]
    words: list[Any] = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if vocabulary.flag("add_space_prefix", True):
        spaces.insert(0, normalizers.Prepend(_SPACE))
        words.append(decoders.Strip(" ", 1, 0))
    tokenizer.normalizer = normalizers.Sequence(spaces)
    tokenizer.decoder = decoders.Sequence(words)
    return tokenizer


def _pre_tokenizer(vocabulary: Vocabulary) -> PreTokenizer:
    return KNOWN.get(str(vocabulary.metadata.get(f"{PREFIX}pre")), DEFAULT)


def _add_tokens(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    """Tokens that a text may spell out: control tokens, and those that users defined, which are shown."""
    name = str(vocabulary.metadata.get("general.name", "")).lower()
    strips = "phi-3" in name or "phi3" in name  # llama.cpp knows those models by their name
    all_types = types(vocabulary)
    for special, kinds in ((True, (CONTROL, UNKNOWN)), (False, (USER_DEFINED,))):
        tokens = [
            AddedToken(
                text,
                normalized=False,
                special=special,
                rstrip=strips and text not in ("<unk>", "<s>", "<|endoftext|>"),
            )
            for text, kind in zip(vocabulary.tokens, all_types, strict=True)
            if kind in kinds
        ]
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(tokens)


def _adds_bos(vocabulary: Vocabulary) -> bool:
    return _wants_end("bos", vocabulary) and vocabulary.special_id("bos") is not None


def _adds_eos(vocabulary: Vocabulary) -> bool:
    return _wants_end("eos", vocabulary) and vocabulary.special_id("eos") is not None


def _wants_end(name: str, vocabulary: Vocabulary) -> bool:
    """Whether the file asks for BOS or EOS around a text, or is of a kind that has it where the file does not say."""
    default = name == "bos" and (vocabulary.kind == SENTENCEPIECE or _pre_tokenizer(vocabulary).adds_bos)
    return vocabulary.flag(f"add_{name}_token", default)


def _with_ends(tokenizer: Tokenizer, vocabulary: Vocabulary) -> str:
    """tokenizer.json, with BOS and EOS around every text as the file asks for them."""
    ends = [vocabulary.special_id("bos") if _adds_bos(vocabulary) else None]
    ends.append(vocabulary.special_id("eos") if _adds_eos(vocabulary) else None)
    first, last = ([] if index is None else [_template_token(vocabulary, index)] for index in ends)
    if not first and not last:
        return str(tokenizer.to_str())
    texts = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    content = json.loads(tokenizer.to_str())
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [*first, texts[0], *last],
        "pair": [*first, *texts, *last],
        "special_tokens": {
            vocabulary.tokens[index]: {
                "id": vocabulary.tokens[index],
                "ids": [index],
                "tokens": [vocabulary.tokens[index]],
            }
            for index in ends
            if index is not None
        },
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _template_token(vocabulary: Vocabulary, index: int) -> dict[str, Any]:
    return {"SpecialToken": {"id": vocabulary.tokens[index], "type_id": 0}}


def _warnings(vocabulary: Vocabulary) -> tuple[str, ...]:
    return tuple(
        f"{vocabulary.path}: {sentence}"
        for check in (_wrong_ids, _unknown_split, _missing_ends, _unused_templates)
        for sentence in check(vocabulary)
    )


def _wrong_ids(vocabulary: Vocabulary) -> list[str]:
    """Special tokens outside the vocabulary (-1, written as 4294967295, is seen)."""
    sentences = []
    for name in _NAMED:
        key = f"{PREFIX}{name}_token_id"
        value, used = vocabulary.metadata.get(key), vocabulary.special_id(name)
        if value is not None and value != used:
            instead = "it is left out" if used is None else f"token {used} ({vocabulary.tokens[used]}) is taken"
            sentences.append(
                f"{key} names token {value!r:.40}, but the vocabulary has {len(vocabulary.tokens)}; {instead}, "
                "check the file's metadata"
            )
    return sentences


def _unknown_split(vocabulary: Vocabulary) -> list[str]:
    pre = vocabulary.metadata.get(f"{PREFIX}pre")
    if vocabulary.kind != BYTE_LEVEL or pre in KNOWN:
        return []
    return [
        f"{PREFIX}pre is {pre!r}, and known are {', '.join(KNOWN)}; text may be cut into other tokens than in "
        "training, so compare the tokenizer with the model's own or convert its Hugging Face directory"
    ]


def _missing_ends(vocabulary: Vocabulary) -> list[str]:
    return [
        f"{key} is true{by_default}, but the file names no such token; texts go without it"
        for name, key in (("bos", f"{PREFIX}add_bos_token"), ("eos", f"{PREFIX}add_eos_token"))
        for by_default in ("" if key in vocabulary.metadata else " by default",)
        if _wants_end(name, vocabulary) and vocabulary.special_id(name) is None
    ]


def _unused_templates(vocabulary: Vocabulary) -> list[str]:
    template = vocabulary.metadata.get(_TEMPLATE)
    named = sorted(key for key in vocabulary.metadata if key.startswith(f"{_TEMPLATE}."))
    if isinstance(template, str) or not (named or template is not None):
        return []
    return [
        f"{_TEMPLATE} is missing or no text, and other templates ({', '.join(named)}) are not for chats; convert "
        "the model's Hugging Face directory for a chat"
    ]
