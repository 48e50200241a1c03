"""How much faster attention is on several threads than on one: this project's op and torch, both numbers of threads
interleaved in one process.

python benchmarks/thread_scaling.py --bundle=smollm2.bundle --text=build/texts/brown.txt
    [--num_threads=2] [--lengths=1024,4096] [--modes=dense,int8,shadow] [--isa=avx512vnni] [--runs=5] [--json=FILE]

1.8 on two threads can be had on two physical cores only: the topology is printed with the result.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attention_speed import (
    MODES,
    add_common_flags,
    command_line,
    names,
    numbers,
    open_layers,
    record_layers,
    settle,
    write,
)

if TYPE_CHECKING:
    from attention_kernel import Kernel

LENGTHS = (1024, 4096)


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    parser.add_argument("--num_threads", type=int, default=2, help="what one thread is compared with")
    parser.add_argument("--lengths", type=numbers, default=LENGTHS, help="rows, with commas between")
    parser.add_argument("--modes", type=names, default=MODES)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--decode_steps", type=int, default=33)
    parser.add_argument("--json", type=Path, default=None, help="write the result there, too")
    return parser.parse_args(words)


def measure(arguments: argparse.Namespace, settled: dict[str, Any]) -> dict[str, Any]:
    """The result. Raises ValueError for a wrong answer, or for what the bundle or the machine cannot do."""
    import attention_rows as rows

    from shadowattn.models.bundle import read_manifest

    manifest = read_manifest(arguments.bundle)
    recorded, source = record_layers(arguments, 1)
    kernels: list[Kernel] = []
    skipped: dict[str, str] = {}
    effort = rows.Effort(arguments.runs, arguments.runs, arguments.decode_steps)
    found: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        for count in (1, arguments.num_threads):
            own = argparse.Namespace(**(vars(arguments) | {"num_threads": count}))
            layers, facts = open_layers(own, recorded, _torch(count, skipped), max(arguments.lengths), stack)
            kernels += layers[0].kernels
        for phase in (rows.PREFILL, rows.DECODE):
            found += rows.measure([rows.Layer(recorded[0], kernels)], phase, arguments.lengths, effort)
    return {
        "suite": "thread_scaling",
        **settled,
        **facts,
        "num_threads": arguments.num_threads,
        "bundle": str(arguments.bundle),
        "model": f"{manifest.name} ({manifest.weights})",
        "text": source,
        "layers": [recorded[0].layer],
        "skipped": skipped,
        "rows": _pairs(found, len(kernels)),
    }


def _torch(num_threads: int, skipped: dict[str, str]) -> "list[Kernel]":
    try:
        from torch_attention import TorchKernel

        return [TorchKernel("float32", True, num_threads)]
    except ImportError as error:
        skipped["torch"] = f"not importable ({error})"
        return []


def _pairs(found: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Of every phase and length there are `count` rows: half of them of one thread, then the same of several."""
    pairs = []
    for start in range(0, len(found), count):
        for one, many in zip(found[start : start + count // 2], found[start + count // 2 : start + count], strict=True):
            facts = {key: one[key] for key in ("phase", "length", "kernel", "ours")}
            times = {"ms_one": one["ms"], "ms_many": many["ms"], "speedup": one["ms"] / many["ms"]}
            pairs.append(facts | times | {"relative_error": max(one["relative_error"], many["relative_error"])})
    return pairs


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(words)
    command = command_line(Path(__file__).name, sys.argv[1:] if words is None else words)
    try:
        if arguments.num_threads < 2:
            raise ValueError(f"--num_threads: wanted 2 or more, got {arguments.num_threads}")
        result = {"command": command} | measure(arguments, settle(arguments.isa, arguments.num_threads))
    except (ValueError, OSError) as error:
        raise SystemExit(f"bench: {error}") from None
    return write(result, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
