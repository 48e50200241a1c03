"""Results of finished steps, kept in a folder beside the bundle so that a calibration that was stopped goes on."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Steps:
    """Each step has a name and gives arrays; a step that was finished is read instead of run."""

    def __init__(self, bundle: Path, key: Mapping[str, Any]) -> None:
        """key: all that the results depend on, as JSON has it."""
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        bundle = bundle.resolve()
        self._folder = bundle.parent / f".{bundle.name}.calibration-{digest}"

    def run(self, name: str, compute: Callable[[], Arrays]) -> dict[str, np.ndarray]:
        """Raises what compute() raises, and OSError."""
        file = self._folder / f"{name}.npz"
        with contextlib.suppress(OSError, ValueError, BadZipFile), np.load(file) as known:
            return dict(known)
        result = dict(compute())
        self._folder.mkdir(exist_ok=True)
        partial = file.with_suffix(".partial")
        with partial.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **result)
        os.replace(partial, file)
        return result

    def has(self, name: str) -> bool:
        return (self._folder / f"{name}.npz").is_file()

    def forget(self) -> None:
        """All is done: the folder goes."""
        shutil.rmtree(self._folder, ignore_errors=True)
