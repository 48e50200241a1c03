"""What the estimate graphs of a bundle cost: their number and bytes, the bucket grid, and, by preparing them here, the
time and the memory that each takes."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shadowattn.models.bundle import Manifest
from shadowattn.models.estimate_graphs import FILE_NAME, EstimateKey
from shadowattn.models.plan import Plan
from shadowattn.runtime.litert.resident import resident_bytes, trim_heap
from shadowattn.runtime.measure.table import format_bytes, format_table

if TYPE_CHECKING:  # loads LiteRT
    from shadowattn.runtime.litert.interpreter import GraphRunner

Facts = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Graphs of a head count and a bucket length, one after the other: median milliseconds to prepare one, median
    growth of resident memory once it has run (None where the system does not tell)."""

    chunk: int
    heads: int
    seq_len: int
    graphs: int
    prepare_ms: float
    resident_bytes: int | None


def describe(manifest: Manifest, plan: Plan) -> Facts:
    """Facts that the files say."""
    file = manifest.files.get(FILE_NAME)
    grid = plan.grid
    scales = None if grid is None else {name: array.tolist() for name, array in dataclasses.asdict(grid).items()}
    return {"graphs": len(manifest.estimates), "bytes": file.bytes if file else 0, "grid": scales}


def prepare(bundle: Path, manifest: Manifest, num_threads: int) -> Iterator[Prepared]:
    """Those of the longest prefill chunk, every bucket of scales, by this machine's CPU. Raises ValueError for a file
    that is damaged."""
    from shadowattn.runtime.litert.interpreter import open_graph
    from shadowattn.runtime.pipeline.estimates import EstimateArchive

    chunk = manifest.prefill_chunks[-1]
    groups: dict[tuple[int, int], list[EstimateKey]] = {}
    for key in manifest.estimate_keys():
        if key.chunk == chunk:
            groups.setdefault((key.heads, key.seq_len), []).append(key)
    with contextlib.closing(EstimateArchive(bundle / FILE_NAME, "convert the model again")) as archive:
        for (heads, seq_len), keys in sorted(groups.items()):
            costs = [_cost(archive.read(key), key, num_threads, open_graph) for key in keys]
            grown = [size for _, size in costs if size is not None]
            yield Prepared(
                chunk=chunk,
                heads=heads,
                seq_len=seq_len,
                graphs=len(keys),
                prepare_ms=statistics.median(seconds for seconds, _ in costs) * 1e3,
                resident_bytes=int(statistics.median(grown)) if grown else None,
            )


def _cost(
    content: bytes, key: EstimateKey, num_threads: int, open_graph: "Callable[[bytes, str, int], GraphRunner]"
) -> tuple[float, int | None]:
    """Seconds to prepare, and bytes that preparing and one run add."""
    trim_heap()
    before = resident_bytes()
    start = time.perf_counter()
    graph = open_graph(content, key.name, num_threads)
    seconds = time.perf_counter() - start
    graph.invoke()  # memory is there once it was written
    after = resident_bytes()
    graph.close()
    return seconds, None if before is None or after is None else max(0, after - before)


def text(facts: Facts) -> str:
    """For people."""
    lines = [f"estimate graphs of head groups: {facts['graphs']:,} in {format_bytes(facts['bytes'])}"]
    if grid := facts["grid"]:
        header = ["level of q . k", *(f"K {scale:.3g}" for scale in grid["k_scales"])]
        rows = zip(grid["q_scales"], grid["score_scales"], strict=True)
        cells = [[f"Q {scale:.3g}", *(f"{level:.3g}" for level in levels)] for scale, levels in rows]
        lines += ["bucket grid, INT8 steps of Q and K and what a level of the scores is worth:"]
        lines += [format_table(header, cells, indent="  ")]
    else:
        lines += ["bucket grid: none, only rank-invariant graphs"]
    if prepared := facts.get("prepared"):
        lines += [f"prepared on this CPU, graphs of chunk {prepared[0]['chunk']} (median of the buckets of scales):"]
        sized = [(row, row["resident_bytes"]) for row in prepared]
        table = [
            [row["heads"], row["seq_len"], row["graphs"], f"{row['prepare_ms']:.2f}", size and format_bytes(size)]
            for row, size in sized
        ]
        lines += [format_table(["heads", "positions", "graphs", "prepare (ms)", "memory of one"], table, indent="  ")]
    return "\n".join(lines)
