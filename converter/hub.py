"""A model of the Hugging Face Hub by its name, `org/name` or `org/name@revision`: from the local cache, or downloaded.

Only data is taken: weights in safetensors, the files of the tokenizer, config and model card; never code.
"""

import json
import os
import re
from pathlib import Path

_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")
_FILES = [
    *("config.json", "generation_config.json", "README.md", "*.safetensors", "*.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.jinja", "chat_template.json", "processor_config.json", "LICENSE*", "LICENCE*"),
    *("tokenizer.model", "tokenizer.*.json", "tekken.json", "tiktoken.model", "vocab.json", "vocab.txt", "merges.txt"),
]
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "tiktoken.model")
_NOT = ["*/*", "consolidated*", "adapter*"]  # copies of the weights in another layout, and what is no whole model


def is_hub_name(text: str) -> bool:
    """Whether it may name a model of the Hub: nothing of that path is there, and it reads like org/name."""
    return not os.path.lexists(text) and _NAME.fullmatch(text) is not None


def fetch(text: str) -> Path:
    """The folder of the model. Raises ValueError: there is no such model, or no way to it."""
    from huggingface_hub import constants, errors, snapshot_download

    match = _NAME.fullmatch(text)
    assert match is not None
    repo, revision = match["repo"], match["revision"]
    if (cached := _in_cache(repo, revision)) is not None:
        return cached
    where = constants.ENDPOINT
    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=_FILES, ignore_patterns=_NOT))
    except errors.GatedRepoError:
        raise ValueError(
            f"{text}: the model's owner must let you in first; accept its terms at {where}/{repo} and log in with "
            "`hf auth login`"
        ) from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        what = "revision" if isinstance(error, errors.RevisionNotFoundError) else "model"
        raise ValueError(f"{text}: there is no such path here and no such {what} at {where}; check the name") from None
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{text}: there is no such path here, it is not in the Hugging Face cache, and {where} could not be "
            f"reached ({reason}); check the path or the network"
        ) from None
    if not _is_whole(folder):
        raise ValueError(
            f"{text}: the model has no config.json with weights in safetensors at {where}; where it has a GGUF file, "
            "download that and give its path"
        )
    return folder


def _in_cache(repo: str, revision: str | None) -> Path | None:
    """The snapshot in the local cache, whoever put it there, if weights and tokenizer are in it."""
    from huggingface_hub import errors, try_to_load_from_cache

    try:
        config = try_to_load_from_cache(repo, "config.json", revision=revision)
    except errors.HFValidationError:
        return None
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    with_tokenizer = any((folder / name).exists() for name in _TOKENIZERS)
    return folder if with_tokenizer and _is_whole(folder) else None


def _is_whole(folder: Path) -> bool:
    """The config is there, and the weights in one file, or every shard that the index names, or any where there is no
    index. About an index that is damaged the conversion has its own sentence."""
    if not (folder / "config.json").exists():
        return False
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").exists() or not index.exists():
        return any(file.exists() for file in folder.glob("*.safetensors"))
    try:
        shards = set(json.loads(index.read_bytes())["weight_map"].values())
        return all((folder / shard).exists() for shard in shards)
    except (ValueError, KeyError, TypeError, AttributeError):
        return True
