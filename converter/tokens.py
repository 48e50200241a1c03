"""The tokens a bundle names: a tokenizer that can be read, and the ids that begin and end a text."""

import dataclasses

from tokenizers import Tokenizer

from shadowattn.converter import toolchain
from shadowattn.converter.checkpoint import Checkpoint, TokenizerFiles
from shadowattn.converter.gguf_stop_tokens import END_TEXTS

_ANSWER = "Zq7w"  # what the assistant says while a chat template is tried: no template writes it itself


@dataclasses.dataclass(frozen=True)
class KnownTokens:
    """Ids within the vocabulary. warnings: what was left out or added, or is missing, a sentence each."""

    bos: int | None
    stops: tuple[int, ...]
    warnings: tuple[str, ...]


def readable_tokenizer(checkpoint: Checkpoint, may_be_missing: bool) -> TokenizerFiles | None:
    """The checkpoint's tokenizer, tried out. Raises ValueError if it has none, unless it may be missing."""
    files = checkpoint.tokenizer()
    if files is None:
        if may_be_missing:
            return None
        raise ValueError(
            f"{checkpoint.path}: the model has no tokenizer (tokenizer.json); add it, or pass "
            "--allow_missing_tokenizer for a bundle that takes token ids only"
        )
    try:
        "".join((files.json, files.chat_template or "", *files.special_tokens.values())).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{checkpoint.path}: the tokenizer's files hold text that is not Unicode ({error}); get them again"
        ) from None
    _library_tokenizer(checkpoint, files)
    return files


def known_tokens(checkpoint: Checkpoint, files: TokenizerFiles | None, vocab_size: int) -> KnownTokens:
    """What config, generation config, tokenizer and chat template name as first and last tokens; ids of no token are
    left out."""
    bos, stops = checkpoint.bos_token_id, list(checkpoint.stop_token_ids)
    warnings: list[str] = []
    if files is not None:
        tokenizer = _library_tokenizer(checkpoint, files)
        if bos is None:
            bos = tokenizer.token_to_id(files.special_tokens.get("bos_token", ""))
        stops += [index for text in files.stop_tokens if (index := tokenizer.token_to_id(text)) is not None]
        warnings += _too_large(tokenizer, vocab_size)
        added, about_turns = _turn_end(tokenizer, files, stops)
        stops += added
        warnings += about_turns
    candidates = dict.fromkeys([*stops, *([] if bos is None else [bos])])
    outside = [index for index in candidates if not 0 <= index < vocab_size]
    warnings += [
        f"the model names token {index} as a first or last token, but its vocabulary has {vocab_size}; it is left "
        "out, check bos_token_id and eos_token_id"
        for index in outside
    ]
    kept = tuple(index for index in dict.fromkeys(stops) if index not in outside)
    if not kept:
        warnings.append(
            "the model names no token that ends an answer, so answers end at max_new_tokens; name one as eos_token_id "
            "in generation_config.json"
        )
    sentences = tuple(f"{checkpoint.path}: {sentence}" for sentence in warnings)
    return KnownTokens(None if bos in outside else bos, kept, sentences)


def _too_large(tokenizer: Tokenizer, vocab_size: int) -> list[str]:
    """A sentence if texts can become tokens that the model has no embedding of."""
    beyond = sorted((index, text) for text, index in tokenizer.get_vocab().items() if index >= vocab_size)
    if not beyond:
        return []
    return [
        f"the tokenizer has {len(beyond)} tokens that the model's embedding of {vocab_size} rows lacks, from "
        f"{beyond[0][1]!r:.40} (token {beyond[0][0]}) on; texts that hold one of them are refused"
    ]


def _turn_end(tokenizer: Tokenizer, files: TokenizerFiles, stops: list[int]) -> tuple[list[int], list[str]]:
    """The token that ends the assistant's turn in the chat template, if it is no stop token yet: it becomes one if it
    is known to end turns. And a sentence about it."""
    if files.chat_template is None:
        return [], []
    try:
        text = _after_an_answer(files)
    except Exception as error:  # a template is a program from elsewhere: it can fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return [], [f"the chat template fails on a question and an answer ({reason:.160}); chats will not do"]
    if not text:
        return [], []
    first = tokenizer.encode(text, add_special_tokens=False).ids[0]
    if first in stops:
        return [], []
    token = str(tokenizer.id_to_token(first))
    added = tokenizer.get_added_tokens_decoder().get(first)
    if added is not None and added.special and token in END_TEXTS:
        return [first], [f"the chat template ends a turn with {token}, which the model names nowhere as a last token; "
                         "it is taken for one"]  # fmt: skip
    return [], [
        f"the chat template ends a turn with {text!r:.60}, which begins with no token that ends an answer, so answers "
        "may run on; name the token that ends a turn in eos_token_id of generation_config.json"
    ]


def _after_an_answer(files: TokenizerFiles) -> str:
    """What the template writes after the assistant's words, without the space around it; "" where it leaves them out.
    Raises whatever the template raises."""
    from transformers import PreTrainedTokenizerFast

    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _ANSWER}]
    with toolchain.quiet():
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(files.json), **files.special_tokens)
        rendered = tokenizer.apply_chat_template(messages, chat_template=files.chat_template, tokenize=False)
    return str(rendered).rpartition(_ANSWER)[2].strip() if _ANSWER in rendered else ""


def _library_tokenizer(checkpoint: Checkpoint, files: TokenizerFiles) -> Tokenizer:
    try:
        return Tokenizer.from_str(files.json)
    except Exception as error:  # the library raises plain Exception
        raise ValueError(
            f"{checkpoint.path}: tokenizer.json cannot be read by the tokenizers library ({error!s:.120}); get it again"
        ) from None
