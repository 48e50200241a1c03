"""How long a bundle takes until it can be given a prompt, each time in a fresh process."""

import concurrent.futures
import multiprocessing
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def load_times(bundle: Path, name: str, options: Mapping[str, Any], num_tokens: int, runs: int) -> dict[str, Any]:
    """Medians of open() and of prepare() for a prompt of num_tokens. The first process of all brings the file into the
    page cache and is not counted."""
    context = multiprocessing.get_context("spawn")
    taken = []
    for _ in range(runs + 1):
        with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
            taken.append(pool.submit(_load, bundle, dict(options), num_tokens).result())
    opened, prepared = zip(*taken[1:], strict=True)
    medians = {"open_s": statistics.median(opened), "prepare_s": statistics.median(prepared)}
    return {"setting": name, **medians, "open_s_runs": list(opened), "prepare_s_runs": list(prepared)}


def _load(bundle: Path, options: dict[str, Any], num_tokens: int) -> tuple[float, float]:
    """In the child: seconds of open() and prepare(), imports done before."""
    from shadowattn.runtime.session.session import Session

    begin = time.perf_counter()
    with Session.open(bundle, **options) as session:
        opened = time.perf_counter()
        session.prepare(num_tokens)
        return opened - begin, time.perf_counter() - opened
