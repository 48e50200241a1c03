"""The text that a conversion is calibrated on, in the model's tokens."""

import dataclasses
from pathlib import Path

import numpy as np

from shadowattn.models.spec import ModelSpec

DEFAULT_TOKENS = 2048
_FEWEST_DISTINCT_TOKENS = 16
_CHARACTERS_PER_TOKEN = 16  # more than any text has on average


@dataclasses.dataclass(frozen=True)
class CalibrationText:
    """Token ids [n] int64 and where they come from, for the manifest."""

    description: str
    ids: np.ndarray


def calibration_text(spec: ModelSpec, tokenizer_json: str | None, own: Path | None = None) -> CalibrationText:
    """The first tokens of `own`, a UTF-8 text. None: English prose that every Python has, in the model's own tokens, or
    seeded random ids where that says nothing: without a tokenizer, and with one that knows no English.

    Raises ValueError for a text of one's own that says nothing.
    """
    count = min(DEFAULT_TOKENS, spec.max_length)
    if own is not None:
        if tokenizer_json is None:
            raise ValueError(f"{own}: the model has no tokenizer to read a calibration text with; leave it out")
        ids = _encode(tokenizer_json, _read(own), count)
        if not _says_something(ids, spec):
            raise ValueError(
                f"{own}: a calibration text needs {_FEWEST_DISTINCT_TOKENS} different tokens of the model's "
                f"vocabulary, got {len(set(ids))}; choose a longer text"
            )
        return CalibrationText(own.name, np.array(ids, np.int64))
    if tokenizer_json is not None:
        from pydoc_data.topics import topics

        ids = _encode(tokenizer_json, "\n\n".join(topics[name] for name in sorted(topics)), count)
        if _says_something(ids, spec):
            return CalibrationText("pydoc_data.topics", np.array(ids, np.int64))
    random_ids = np.random.default_rng(0).integers(0, spec.vocab_size, count)
    return CalibrationText("random token ids (seed 0)", random_ids.astype(np.int64))


def _encode(tokenizer_json: str, text: str, count: int) -> list[int]:
    from tokenizers import Tokenizer

    ids: list[int] = Tokenizer.from_str(tokenizer_json).encode(text[: _CHARACTERS_PER_TOKEN * count]).ids
    return ids[:count]


def _says_something(ids: list[int], spec: ModelSpec) -> bool:
    return len(set(ids)) >= _FEWEST_DISTINCT_TOKENS and max(ids) < spec.vocab_size


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: a calibration text must be UTF-8 ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise ValueError(f"{path}: the calibration text cannot be read ({error.strerror}); check the path") from None
