"""The windows of text that a plan is fitted to, and those it is judged on."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from shadowattn.models.bundle import Manifest
from shadowattn.runtime.calibrate.options import WINDOW, CalibrateOptions
from shadowattn.runtime.measure.workload import read_text
from shadowattn.runtime.text.tokenizer import BundleTokenizer

_FEWEST = 128  # tokens of a window: rows of less than 64 read everything
Tokens = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class CalibrationWindows:
    """source: where the tokens come from. fit: observed; held_out: the loss is measured on them; longest: one window
    for the lengths that `fit` does not reach, or empty. No token is in two of them."""

    source: str
    sha256: str
    fit: tuple[Tokens, ...]
    held_out: tuple[Tokens, ...]
    longest: Tokens


def load_windows(bundle: Path, manifest: Manifest, options: CalibrateOptions) -> CalibrationWindows:
    """Raises ValueError for a text that is too short, OSError for one that cannot be read."""
    most = options.session.get("max_length") or manifest.max_length
    length = min(WINDOW, most, options.tokens or WINDOW)
    amount = options.amount
    count = amount.windows if options.tokens is None else max(1, options.tokens // length)
    longest = min(amount.longest, most) if min(amount.longest, most) > length else 0
    source, tokens = _tokens(bundle, manifest, options, (count + amount.held_out) * length + longest)
    if length < _FEWEST:
        raise ValueError(
            f"{bundle}: wanted windows of at least {_FEWEST} tokens, got {length} (--tokens, --max_length, or the "
            f"bundle's max_length {manifest.max_length}); shorter rows attend to everything, so there is nothing to fit"
        )
    if len(tokens) < 2 * length:
        raise ValueError(
            f"{source}: wanted at least {2 * length:,} tokens (two windows), got {len(tokens):,}; give a longer text, "
            "or less with --tokens"
        )
    return _cut(source, tokens, length, count, amount.held_out, longest)


def _cut(source: str, tokens: Tokens, length: int, count: int, held_out: int, longest: int) -> CalibrationWindows:
    """Of a text that is too short for all, the longest window goes first, then others: two stay in any case."""
    whole = len(tokens) // length
    if (count + held_out) * length + longest > len(tokens):
        longest = 0
    held_out = max(1, min(held_out, whole - 1))
    count = min(count, whole - held_out)
    pieces = [tokens[i * length : (i + 1) * length] for i in range(count + held_out)]
    every = (count + held_out) // held_out  # the held out lie among the others, not all at the end of the text
    kept = set(range(every - 1, every * held_out, every))
    start = (count + held_out) * length
    return CalibrationWindows(
        source=source,
        sha256=hashlib.sha256(np.asarray(tokens, np.int32).tobytes()).hexdigest(),
        fit=tuple(piece for i, piece in enumerate(pieces) if i not in kept),
        held_out=tuple(pieces[i] for i in sorted(kept)),
        longest=tokens[start : start + longest],
    )


def _tokens(bundle: Path, manifest: Manifest, options: CalibrateOptions, wanted: int) -> tuple[str, Tokens]:
    """Of several files the same share each."""
    if manifest.tokenizer.file is None:
        if options.texts:
            raise ValueError(f"{bundle}: the bundle has no tokenizer, so --text cannot be used; leave it out")
        ids = np.random.default_rng(0).integers(0, manifest.model.vocab_size, wanted)
        return "random token ids (seed 0)", tuple(ids.tolist())
    tokenizer = BundleTokenizer.open(bundle, manifest)
    files = options.texts or (None,)
    share = -(-wanted // len(files))
    names, tokens = [], []
    for file in files:
        name, prose = read_text(file)
        names.append(name)
        tokens += tokenizer.encode(prose[: 16 * share], add_special_tokens=False)[:share]
    return ", ".join(names), tuple(tokens)
