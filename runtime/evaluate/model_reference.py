"""The float model that a bundle came from, run by whatever is installed for that: the converter, found by its entry
point. It has the shape of FloatModel here, and is not imported: runtime knows no torch."""

import importlib.metadata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from shadowattn.models.bundle import Manifest
from shadowattn.models.spec import ModelSpec
from shadowattn.runtime.session.scoring import ScoreSlice

GROUP = "shadowattn.references"
_MISSING = "--reference needs torch; run: pip install 'shadowattn[converter]'"


class FloatModel(Protocol):
    """Windows are token ids from position 0; logits() gives rows of one that was read."""

    spec: ModelSpec

    def read(self, windows: Sequence[Sequence[int]], progress: Callable[[int, int], None]) -> None: ...

    def logits(self, window: int, start: int, stop: int) -> np.ndarray: ...


def open_model(path: Path, manifest: Manifest) -> FloatModel:
    """Raises ValueError where nothing can run a float model, `path` is no model, or not the bundle's."""
    entries = list(importlib.metadata.entry_points(group=GROUP))
    try:
        [entry] = entries
        model: FloatModel = entry.load()(path)
    except (ImportError, ValueError) as error:
        if isinstance(error, ImportError) or not entries:
            raise ValueError(_MISSING) from error
        raise
    if model.spec != manifest.model:
        raise ValueError(
            f"--reference: {path} is not the model of this bundle ({manifest.name}): their sizes or settings differ; "
            "give the model that the bundle was made from"
        )
    return model


def slice_of(model: FloatModel, window: int, token_ids: Sequence[int], part: ScoreSlice) -> ScoreSlice:
    """What the model gives for the rows of `part`."""
    stop = part.start + len(part.logprobs)
    logits = model.logits(window, part.start, stop)
    targets = np.asarray(token_ids[part.start + 1 : stop + 1])
    largest = logits.max(axis=-1)
    sums = np.exp(logits - largest[:, None]).sum(axis=-1, dtype=np.float64)
    logprobs = logits[np.arange(len(targets)), targets] - largest - np.log(sums)
    return ScoreSlice(part.start, logprobs.astype(np.float32), logits)
