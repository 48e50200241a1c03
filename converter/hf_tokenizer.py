"""The tokenizer of a Hugging Face directory, as transformers loads it: every file that names tokens counts.

No code of the model is run or offered to be run, and nothing is asked of the network: transformers sees a folder of
its own that holds links to the model's tokenizer files and nothing else.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from shadowattn.converter import toolchain
from shadowattn.converter.checkpoint import TokenizerFiles
from shadowattn.converter.json_files import read_json
from shadowattn.converter.model_files import check_file
from shadowattn.converter.text_grid import TEXTS

_JSON, _SENTENCEPIECE, _CONFIG, _TEMPLATES = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "additional_chat_templates",
)  # fmt: skip
_SOURCES = (_JSON, _SENTENCEPIECE, "vocab.json", "tekken.json", "tiktoken.model", "vocab.txt")
_SUFFIXES = (".json", ".model", ".txt", ".jinja")
_READ_APART = ("config.json", "generation_config.json", _CONFIG)
_OF_PROCESSORS = ("chat_template.json", "processor_config.json")  # they keep chat templates of their own
_TOKEN_LISTS = ("additional_special_tokens", "extra_special_tokens")
_LEAST_TOKENS = 8  # fewer are the special tokens that a class of transformers makes up where it finds no vocabulary


def tokenizer_files(folder: Path, config: Mapping[str, Any]) -> TokenizerFiles | None:
    """config: of config.json. None where the folder has no tokenizer. Raises ValueError if it cannot be loaded."""
    settings = read_json(folder, _CONFIG, optional=True)
    _refuse_damage(folder)
    if not any((folder / name).is_file() for name in _SOURCES) and not any(folder.glob("tokenizer.*.json")):
        return None
    with _staged(folder, settings, config) as staged, toolchain.quiet():
        tokenizer, warnings = _load(folder, staged, settings)
        backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        backend.no_truncation()
        backend.no_padding()
        _refuse_differences(folder, tokenizer, backend)
    warnings += _moved_tokens(folder, settings, backend)
    template, about_template = _chat_template(folder, tokenizer.chat_template)
    special = dict(tokenizer.special_tokens_map)
    return TokenizerFiles(
        str(backend.to_str()),
        template,
        special,
        (*warnings, *about_template),
        stop_tokens=tuple(text for text in (special.get("eos_token"),) if text is not None),
    )


def _refuse_damage(folder: Path) -> None:
    """Links that lead nowhere and pointers of Git LFS would be taken for files that are not there, or for nonsense."""
    for name in ("added_tokens.json", "special_tokens_map.json"):
        read_json(folder, name, optional=True)
    for file in sorted(folder.iterdir()):
        if file.suffix in _SUFFIXES and not file.name.endswith(".index.json") and not file.is_dir():
            check_file(file)


@contextlib.contextmanager
def _staged(folder: Path, settings: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Path]:
    """A folder with the tokenizer's files only, its settings spelled as transformers wants them."""
    with tempfile.TemporaryDirectory() as name:
        staged = Path(name)
        for file in folder.iterdir():
            listed = file.suffix in _SUFFIXES and not file.name.endswith(".index.json") and file.is_file()
            if (listed and file.name not in _READ_APART) or (file.name == _TEMPLATES and file.is_dir()):
                (staged / file.name).symlink_to(file.resolve())
        kept = {key: config[key] for key in ("model_type", "tokenizer_class", "transformers_version") if key in config}
        _write(staged / "config.json", kept, folder)
        if settings:
            _write(staged / _CONFIG, {key: _token(key, value) for key, value in settings.items()}, folder)
        yield staged


def _write(file: Path, content: Mapping[str, Any], folder: Path) -> None:
    try:
        file.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{folder}: the tokenizer's files hold text that is not Unicode ({file.name}: {error}); get them again"
        ) from None


def _token(key: str, value: Any) -> Any:
    """A special token that is an object; transformers wants it marked as one."""
    if key in _TOKEN_LISTS and isinstance(value, list):
        return [_token("a_token", item) for item in value]
    if key.endswith("_token") and isinstance(value, dict) and "content" in value:
        return {"__type": "AddedToken"} | value
    return value


def _load(folder: Path, staged: Path, settings: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """What transformers' AutoTokenizer makes of the files, if that is what tokenizer.json or tokenizer.model say."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if (staged / _JSON).is_file():
        _check_readable(folder)
    try:
        automatic = _from_files(AutoTokenizer, staged)
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise ValueError(
                f"{folder}: the tokenizer needs Python code of the model's own ({settings.get('auto_map')!s:.100} in "
                f"{_CONFIG}), and shadowattn runs no such code; use a model whose tokenizer transformers has"
            ) from None
        if not (staged / _JSON).is_file():
            raise ValueError(_cannot(folder, error)) from error
        automatic = None
    if (staged / _JSON).is_file():
        try:
            plain = _from_files(PreTrainedTokenizerFast, staged)
        except Exception as error:
            raise ValueError(_cannot(folder, error)) from error
        return _closest_to_json(folder, automatic, plain)
    if (staged / _SENTENCEPIECE).is_file():
        return _closest_to_sentencepiece(folder, staged, automatic), ()
    _refuse_lost_vocabulary(folder, staged, automatic)
    return automatic, ()


def _from_files(loader: Any, staged: Path) -> Any:
    """Raises whatever transformers raises, and ValueError for a tokenizer that is not of the tokenizers library."""
    tokenizer = loader.from_pretrained(str(staged), local_files_only=True, trust_remote_code=False)
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ValueError(f"{type(tokenizer).__name__} has no form that the tokenizers library reads")
    return tokenizer


def _cannot(folder: Path, error: Exception) -> str:
    reason = " ".join(str(error).split())
    return (
        f"{folder}: the tokenizer cannot be loaded by transformers ({type(error).__name__}: {reason:.200}); get the "
        "tokenizer's files again, or add a tokenizer.json"
    )


def _check_readable(folder: Path) -> None:
    text = json.dumps(read_json(folder, _JSON), ensure_ascii=False)
    try:
        Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception
        raise ValueError(
            f"{folder}: {_JSON} cannot be read by the tokenizers library ({error!s:.120}); get it again"
        ) from None


def _closest_to_json(folder: Path, automatic: Any | None, plain: Any) -> tuple[Any, tuple[str, ...]]:
    """AutoTokenizer may build a tokenizer anew from the vocabulary in tokenizer.json, by the rules of the class that
    the settings name. Where that class is not of the kind of tokenizer.json, or loses tokens, tokenizer.json counts."""
    if (
        automatic is None
        or _kind(automatic) != _kind(plain)
        or plain.get_vocab().items() - automatic.get_vocab().items()
    ):
        return plain, ()
    for text in TEXTS:
        if automatic(text)["input_ids"] != plain(text)["input_ids"]:
            return automatic, (
                f"{folder}: {type(automatic).__name__} of transformers cuts {text!r:.40} into other tokens than "
                f"{_JSON} does; the bundle follows transformers, which {_CONFIG} and config.json name",
            )
    return automatic, ()


def _kind(tokenizer: Any) -> tuple[str, bool]:
    """The model, and whether its tokens are spelled byte by byte."""
    backend = tokenizer.backend_tokenizer
    return type(backend.model).__name__, "ByteLevel" in str(backend.decoder)


def _closest_to_sentencepiece(folder: Path, staged: Path, automatic: Any) -> Any:
    """The first of transformers' two ways to convert tokenizer.model that cuts texts as SentencePiece does."""
    import sentencepiece
    from transformers import PreTrainedTokenizerFast

    original = sentencepiece.SentencePieceProcessor(str(staged / _SENTENCEPIECE))
    texts = [" ".join(text.split()) for text in TEXTS]
    wanted = [original.encode(text) for text in texts]
    for tokenizer in (automatic, _from_files(PreTrainedTokenizerFast, staged)):
        found = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        if found == wanted:
            return tokenizer
    different = next(text for text, ours, theirs in zip(texts, found, wanted, strict=True) if ours != theirs)
    raise ValueError(
        f"{folder}: transformers converts {_SENTENCEPIECE} to a tokenizer that cuts {different!r:.60} otherwise than "
        "SentencePiece does; add a tokenizer.json"
    )


def _refuse_lost_vocabulary(folder: Path, staged: Path, tokenizer: Any) -> None:
    """A class of transformers that does not read the folder's kind of vocabulary makes one up."""
    found = tokenizer.get_vocab()
    wanted = read_json(staged, "vocab.json", optional=True)
    if len(found) < _LEAST_TOKENS <= len(wanted) or any(found.get(text) != index for text, index in wanted.items()):
        raise ValueError(
            f"{folder}: {type(tokenizer).__name__} of transformers does not read the vocabulary in this folder; "
            f"name the tokenizer_class in {_CONFIG}, or add a tokenizer.json"
        )


def _refuse_differences(folder: Path, tokenizer: Any, backend: Tokenizer) -> None:
    """Raises ValueError if what is written to the bundle does not cut texts as transformers does."""
    special = [str(token) for token in tokenizer.added_tokens_decoder.values()]
    for text in (*TEXTS, "".join(special), " ".join(special), *(f"a{token} b" for token in special[:16])):
        for with_special in (True, False):
            wanted = tokenizer(text, add_special_tokens=with_special)["input_ids"]
            found = backend.encode(text, add_special_tokens=with_special).ids
            if found != wanted:
                raise ValueError(
                    f"{folder}: transformers cuts {text!r:.60} into the tokens {wanted!s:.60}, and the tokenizers "
                    f"library into {found!s:.60}; remove what makes {type(tokenizer).__name__} differ "
                    f"(split_special_tokens, say) from {_CONFIG}"
                )


def _moved_tokens(folder: Path, settings: Mapping[str, Any], backend: Tokenizer) -> tuple[str, ...]:
    """transformers numbers the tokens that it adds itself, whatever ids the files state."""
    stated = {text: index for text, index in read_json(folder, "added_tokens.json", optional=True).items()}
    for index, token in settings.get("added_tokens_decoder", {}).items():
        if "content" in token:  # one without is empty text to transformers
            stated[token["content"]] = int(index)
    return tuple(
        f"{folder}: its files state that {text!r:.40} is token {index}, and transformers makes it token "
        f"{backend.token_to_id(text)}; check the tokenizer's files"
        for text, index in stated.items()
        if backend.token_to_id(text) != index
    )


def _chat_template(folder: Path, template: Any) -> tuple[str | None, tuple[str, ...]]:
    """The template for a plain chat, of those that transformers found; a sentence if there are only others."""
    for name in _OF_PROCESSORS:
        if template is None:
            template = read_json(folder, name, optional=True).get("chat_template")
    if isinstance(template, dict):
        if "default" not in template:
            names = ", ".join(sorted(map(str, template)))
            return None, (f"{folder}: of its chat templates ({names}) none is the default; the bundle gets none",)
        template = template["default"]
    if template is None and (folder / _OF_PROCESSORS[0]).is_file():
        return None, (f"{folder}: {_OF_PROCESSORS[0]} holds no chat_template; the bundle gets none",)
    if template is not None and not isinstance(template, str):
        return None, (f"{folder}: the chat template is {type(template).__name__}, not text; the bundle gets none",)
    return template, ()
