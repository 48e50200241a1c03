"""Arguments of Session.open() that need no bundle to be checked."""

import os
from pathlib import Path
from typing import Any

from shadowattn.runtime.litert.delegate import ShadowLibrary, library_path
from shadowattn.runtime.pipeline.options import PipelineOptions
from shadowattn.runtime.session.threads import MOST_THREADS

EXECUTORS = ("fused", "pipelined")


def bundle_path(bundle: Any) -> Path:
    """Raises ValueError for what names no folder."""
    name = os.fspath(bundle) if isinstance(bundle, (str, os.PathLike)) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"wanted the path of a bundle's folder (a str or a Path), got {bundle!r:.60}")
    return Path(name)


def check_arguments(num_threads: Any, executor: str, isa: str, pipeline: PipelineOptions | None) -> None:
    """Raises ValueError that names what is wrong."""
    if not isinstance(num_threads, int) or isinstance(num_threads, bool) or not 1 <= num_threads <= MOST_THREADS:
        raise ValueError(f"num_threads must be an integer from 1 to {MOST_THREADS}, got {num_threads!r}")
    if executor not in EXECUTORS:
        raise ValueError(f"executor must be one of {', '.join(EXECUTORS)}, got {executor!r}")
    if pipeline is not None and executor != "pipelined":
        raise ValueError(f"pipeline is of executor='pipelined', the executor is {executor!r}; leave one of them out")
    if isa != "auto" and isa not in (levels := ShadowLibrary(library_path()).isa_levels):
        raise ValueError(f"isa must be one of auto, {', '.join(levels)}, got {isa!r}")
