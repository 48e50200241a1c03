"""What is evaluated on: token ids of texts, cut into windows that are the same for every mode."""

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shadowattn.models.bundle import Manifest
from shadowattn.runtime.evaluate.options import EvalOptions
from shadowattn.runtime.measure.workload import read_text
from shadowattn.runtime.text.tokenizer import BundleTokenizer

USUAL_WINDOW = 2048
_CHARACTERS_PER_TOKEN = 8  # more than any prose has; what lies beyond need not be tokenised


@dataclasses.dataclass(frozen=True)
class EvalText:
    """A text. file: its path, or in words what it is; prose: all of it, None for random token ids; tokens: the first
    `wanted` of it at least, or all there are; skipped: how many of them are not evaluated; whole: whether tokens are
    those of the whole text."""

    file: str
    sha256: str
    prose: str | None
    tokens: tuple[int, ...]
    skipped: int = 0
    whole: bool = True

    @property
    def name(self) -> str:
        return Path(self.file).name

    @property
    def evaluated(self) -> tuple[int, ...]:
        return self.tokens[self.skipped :]


@dataclasses.dataclass(frozen=True)
class Window:
    """tokens[start:end] of a text, scored from an empty cache; rows before first_row were scored by the one before."""

    start: int
    end: int
    first_row: int


def window_length(options: EvalOptions, manifest: Manifest) -> int:
    """Tokens per window. Raises ValueError if they do not fit a session."""
    most = options.session.get("max_length") or manifest.max_length
    usual = min(USUAL_WINDOW, most, options.max_tokens)
    window = usual if options.window is None else options.window
    if window > most:
        raise ValueError(
            f"--window: wanted at most the {most:,} positions of a session, got {window:,}; use a shorter window or "
            "convert the model with a larger --max_length"
        )
    return window


def plan_windows(count: int, window: int, stride: int) -> Iterator[Window]:
    """Whole windows over `count` tokens; what is left at the end is not scored."""
    for start in range(0, count - window + 1, stride):
        yield Window(start, start + window, 0 if start == 0 or stride >= window else window - 1 - stride)


def load_texts(bundle: Path, manifest: Manifest, options: EvalOptions) -> list[EvalText]:
    """The texts asked for, or Python's documentation, or random token ids. Raises ValueError, OSError."""
    wanted = options.skip_tokens + _tokens_needed(options)
    if manifest.tokenizer.file is None:
        return [_random_text(bundle, manifest, options, wanted)]
    tokenizer = BundleTokenizer.open(bundle, manifest)
    return [_load(file, tokenizer, options, wanted) for file in options.texts or (None,)]


def check_length(text: EvalText, needed: int, flag: str) -> None:
    """Raises ValueError if fewer than `needed` tokens are left of the text."""
    if len(text.evaluated) < needed:
        skipped = f" after the {text.skipped:,} skipped" if text.skipped else ""
        raise ValueError(
            f"{text.file}: wanted at least {needed:,} tokens ({flag}){skipped}, got {len(text.evaluated):,}; give a "
            f"longer text or a smaller {flag}"
        )


def _tokens_needed(options: EvalOptions) -> int:
    """Prompts of `greedy` come from different places of a text, as far as it is long enough."""
    greedy = options.prompts * options.prompt_tokens if "greedy" in options.tasks else 0
    return max(options.max_tokens, greedy)


def _load(file: str | None, tokenizer: BundleTokenizer, options: EvalOptions, wanted: int) -> EvalText:
    name, prose = read_text(file)
    beginning = prose[: _CHARACTERS_PER_TOKEN * wanted]
    tokens = tokenizer.encode(beginning, add_special_tokens=False)
    whole = len(beginning) == len(prose)
    if len(tokens) < wanted and not whole:
        whole = True
        tokens = tokenizer.encode(prose, add_special_tokens=False)
    data = prose.encode() if file is None else Path(file).read_bytes()
    return EvalText(name, hashlib.sha256(data).hexdigest(), prose, tuple(tokens), options.skip_tokens, whole)


def _random_text(bundle: Path, manifest: Manifest, options: EvalOptions, wanted: int) -> EvalText:
    if options.texts:
        raise ValueError(f"{bundle}: the bundle has no tokenizer, so --text cannot be used; leave it out")
    tokens = np.random.default_rng(options.seed).integers(0, manifest.model.vocab_size, wanted, np.int32)
    sha256 = hashlib.sha256(tokens.tobytes()).hexdigest()
    return EvalText("random token ids", sha256, None, tuple(tokens.tolist()), options.skip_tokens)
