"""Attention alone: this project's op in its modes against dense attention of other libraries, on recorded rows.

python benchmarks/attention_speed.py --bundle=smollm2.bundle --text=build/texts/brown.txt
    [--lengths=512,1024,...] [--long] [--modes=dense,int8,shadow,shadow@0.05] [--num_threads=1] [--isa=avx512vnni]
    [--layers=4] [--runs=5] [--long_runs=3] [--json=FILE]

Q, K and V are those that the bundle's model computes for the text. Every answer is checked against float64 before it
is timed; kernels run interleaved in this one process, pinned to as many cores as there are threads. --long adds 16,384
and 32,768 rows, which repeat the text's and say something about time only.
"""

import argparse
import contextlib
import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import isa_limit
import machine

if TYPE_CHECKING:  # loaded once the process is restricted
    from attention_kernel import Kernel
    from attention_rows import Layer
    from recorded import Rows

LENGTHS = (512, 1024, 2048, 4096, 8192)
LONG_LENGTHS = (16384, 32768)
MODES = ("dense", "int8", "shadow")
BUNDLE = Path(".demo/smollm2.bundle")
TEXT = Path("build/texts/brown.txt")


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    parser.add_argument("--lengths", type=numbers, default=LENGTHS, help="rows, with commas between")
    parser.add_argument("--long", action="store_true", help=f"also {LONG_LENGTHS}, of tiled rows")
    parser.add_argument(
        "--modes", type=names, default=MODES, help="as in `shadowattn eval --modes`; dense is always there"
    )
    parser.add_argument("--num_threads", type=int, default=1)
    parser.add_argument("--layers", type=int, default=4, help="how many layers, spread over the depth")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--long_runs", type=int, default=3, help="runs of 8,192 rows and more")
    parser.add_argument("--decode_steps", type=int, default=33)
    parser.add_argument("--gemm", type=int, default=2048, help="size of the matrices that measure the machine's peaks")
    parser.add_argument("--json", type=Path, default=None, help="write the result there, too")
    return parser.parse_args(words)


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """Of every script of the suite that measures."""
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="default: the one `make demo` makes")
    parser.add_argument("--text", type=Path, default=TEXT, help="a real text, held out")
    parser.add_argument(
        "--isa", choices=isa_limit.ISAS, default=isa_limit.usual_isa(), help="what every library may use at most"
    )


def numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted({int(word) for word in text.split(",")}))


def names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def command_line(script: str, words: Sequence[str]) -> str:
    """How to do it again."""
    return shlex.join(["python", f"benchmarks/{script}", *words])


def settle(isa: str, num_threads: int) -> dict[str, Any]:
    """Restricts the process; what is known of the machine, and what was done to it. Raises ValueError."""
    cpus = machine.topology()
    cores = machine.cores_for(num_threads, cpus)
    facts = machine.describe(cpus)
    return {"machine": facts, "cores": cores, "limits": isa_limit.restrict(num_threads, isa, cores), "isa_asked": isa}


def measure(arguments: argparse.Namespace, settled: dict[str, Any]) -> dict[str, Any]:
    """The result. Raises ValueError for a wrong answer, or for what the bundle or the machine cannot do."""
    import attention_rows as rows
    from dense_kernels import dense_kernels
    from gemm_peaks import higher, measure_peaks

    from shadowattn.models.bundle import read_manifest

    manifest = read_manifest(arguments.bundle)
    lengths = [*arguments.lengths, *(LONG_LENGTHS if arguments.long else ())]
    theirs, skipped = dense_kernels(arguments.num_threads)
    peaks = measure_peaks(arguments.gemm)
    recorded, source = record_layers(arguments, arguments.layers)
    with contextlib.ExitStack() as stack:
        layers, facts = open_layers(arguments, recorded, theirs, max(lengths), stack)
        effort = rows.Effort(arguments.runs, arguments.long_runs, arguments.decode_steps)
        found = list(rows.measure(layers, rows.PREFILL, lengths, effort))
        found += rows.measure(layers, rows.DECODE, arguments.lengths, effort)
    peaks = higher(peaks, measure_peaks(arguments.gemm))
    rows.compare(found, peaks, manifest.model.num_heads * manifest.model.head_dim)
    shape = {name: getattr(manifest.model, name) for name in ("num_heads", "num_kv_heads", "head_dim", "num_layers")}
    return {
        "suite": "attention_speed",
        **settled,
        **facts,
        "num_threads": arguments.num_threads,
        "bundle": str(arguments.bundle),
        "model": f"{manifest.name} ({manifest.weights})",
        "shape": shape,
        "text": source,
        "layers": [rows_of_layer.layer for rows_of_layer in recorded],
        "chunks": list(manifest.prefill_chunks),
        "peaks": {"float32_gflops": peaks.float32, "int8_gops": peaks.int8, "gemm": arguments.gemm},
        "skipped": skipped | peaks.skipped,
        "rows": found,
    }


def record_layers(arguments: argparse.Namespace, count: int) -> "tuple[list[Rows], str]":
    """Rows of `count` layers, as many as the longest length wants and the bundle can; and where the text is from."""
    from recorded import read_tokens, record, spread_layers

    from shadowattn.models.bundle import read_manifest

    manifest = read_manifest(arguments.bundle)
    most = min(max(arguments.lengths), manifest.max_length)
    tokens, source = read_tokens(arguments.bundle, manifest, arguments.text, most)
    layers = spread_layers(manifest.model.num_layers, count)
    return record(arguments.bundle, tokens, layers, arguments.num_threads, arguments.isa), source


def open_layers(
    arguments: argparse.Namespace,
    recorded: "Sequence[Rows]",
    theirs: "Sequence[Kernel]",
    max_length: int,
    stack: contextlib.ExitStack,
) -> "tuple[list[Layer], dict[str, Any]]":
    """Kernels of every recorded layer, and facts about the delegate. The stack closes what is opened."""
    from attention_rows import Layer
    from our_attention import LoneOp, OpSetting, our_kernels

    from shadowattn.models.bundle import read_manifest
    from shadowattn.models.plan import FILE_NAME, Plan
    from shadowattn.runtime.evaluate.options import EvalOptions
    from shadowattn.runtime.litert.delegate import ShadowLibrary, library_path

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    manifest = read_manifest(arguments.bundle)
    plan = Plan.from_bytes((arguments.bundle / FILE_NAME).read_bytes(), FILE_NAME)
    variants = EvalOptions(modes=tuple(arguments.modes), keep_ratios=("auto",)).variants()
    layers, isa = [], ""
    for rows in recorded:
        setting = OpSetting(folder / str(rows.layer), arguments.num_threads, arguments.isa, max_length)
        op = LoneOp(manifest, plan, rows.layer, setting)
        stack.callback(op.close)
        isa = op.shadow.isa
        layers.append(Layer(rows, [*our_kernels(op, variants), *theirs]))
    return layers, {"isa": isa, "delegate": ShadowLibrary(library_path()).build_info}


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(words)
    command = command_line(Path(__file__).name, sys.argv[1:] if words is None else words)
    try:
        result = {"command": command} | measure(arguments, settle(arguments.isa, arguments.num_threads))
    except (ValueError, OSError) as error:
        raise SystemExit(f"bench: {error}") from None
    return write(result, arguments.json)


def write(result: dict[str, Any], path: Path | None) -> int:
    """The JSON where it is wanted, and the tables for people."""
    from speed_tables import sections

    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    for section in sections(result):
        print(section.as_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
