"""The tokens a bundle names: a tokenizer that can be read, and the ids that begin and end a text."""

import dataclasses

from tokenizers import Tokenizer

from shadowattn.converter.checkpoint import Checkpoint, TokenizerFiles


@dataclasses.dataclass(frozen=True)
class KnownTokens:
    """Ids within the vocabulary. doubts: what was left out, a sentence each."""

    bos: int | None
    stops: tuple[int, ...]
    doubts: tuple[str, ...]


def readable_tokenizer(checkpoint: Checkpoint, may_be_missing: bool) -> TokenizerFiles | None:
    """The checkpoint's tokenizer, tried out. Raises ValueError if there is none (unless it may be missing)."""
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
    """What config, generation config and tokenizer name as first and last tokens; ids of no token are left out."""
    stops = list(checkpoint.stop_token_ids)
    if files is not None and (text := files.special_tokens.get("eos_token")) is not None:
        eos = _library_tokenizer(checkpoint, files).token_to_id(text)
        stops += [] if eos is None else [eos]
    bos = checkpoint.bos_token_id
    unknown = [
        index for index in dict.fromkeys([*stops, *([] if bos is None else [bos])]) if not 0 <= index < vocab_size
    ]
    doubts = tuple(
        f"{checkpoint.path}: the model names token {index} as a first or last token, but its vocabulary has "
        f"{vocab_size}; it is left out, check bos_token_id and eos_token_id"
        for index in unknown
    )
    kept = tuple(index for index in dict.fromkeys(stops) if index not in unknown)
    return KnownTokens(None if bos in unknown else bos, kept, doubts)


def _library_tokenizer(checkpoint: Checkpoint, files: TokenizerFiles) -> Tokenizer:
    try:
        return Tokenizer.from_str(files.json)
    except Exception as error:  # the library raises plain Exception
        raise ValueError(
            f"{checkpoint.path}: tokenizer.json cannot be read by the tokenizers library ({error!s:.120}); get it again"
        ) from None
