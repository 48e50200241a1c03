"""A whole model: TTFT, TPOT, peak memory and load time of one bundle under several settings of its attention.

python benchmarks/end_to_end.py --bundle=smollm2.bundle --text=build/texts/brown.txt
    [--lengths=512,1024,2048,4096,8000] [--modes=dense,int8,shadow] [--num_threads=1] [--isa=avx512vnni] [--runs=3]
    [--decode_tokens=32] [--peers=DIR] [--json=FILE]

The measuring is what `shadowattn bench` does, with more than two settings: a process each, run in turn over the same
tokens. --peers: a folder of JSON lines that ../shared/peers wrote on some machine (DIR/machine.txt, or a field
`machine`, says which); they are shown beside, and nothing of them is measured here.
"""

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attention_speed import MODES, add_common_flags, command_line, names, numbers, settle, write
from peer_lines import read_peers

if TYPE_CHECKING:
    from shadowattn.runtime.measure.comparison import Run, SessionProcess
    from shadowattn.runtime.measure.workload import Item

LENGTHS = (512, 1024, 2048, 4096, 8000)
_DENSE = "dense"
_NO_STOCK = "this repository makes no such model; ../shared/peers/litertlm.py does: give its lines with --peers"


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    parser.add_argument("--lengths", type=numbers, default=LENGTHS, help="prompt tokens, with commas between")
    parser.add_argument(
        "--modes", type=names, default=MODES, help="as in `shadowattn eval --modes`; dense is always there"
    )
    parser.add_argument("--num_threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--decode_tokens", type=int, default=32)
    parser.add_argument("--peers", type=Path, default=None, help="a folder of JSON lines")
    return parser.parse_args(words)


def measure(arguments: argparse.Namespace, settled: dict[str, Any]) -> dict[str, Any]:
    """The result. Raises ValueError, RuntimeError as sessions do."""
    from load_time import load_times

    from shadowattn.models.bundle import read_manifest
    from shadowattn.runtime.measure import workload
    from shadowattn.runtime.measure.comparison import SessionProcess

    peers = [] if arguments.peers is None else read_peers(arguments.peers, arguments.num_threads, arguments.isa)
    manifest = read_manifest(arguments.bundle)
    lengths = workload.fitting_lengths(arguments.lengths, arguments.decode_tokens, manifest.max_length)
    text = None if manifest.tokenizer.file is None else str(arguments.text)
    work = workload.from_text(arguments.bundle, manifest, text, lengths, arguments.decode_tokens)
    settings = _settings(arguments)
    longest, chunk = lengths[-1], manifest.prefill_chunks[-1]
    load = [load_times(arguments.bundle, name, own, longest, arguments.runs) for name, own in settings.items()]
    with contextlib.ExitStack() as stack:
        processes = {
            name: stack.enter_context(SessionProcess(name, arguments.bundle, own)) for name, own in settings.items()
        }
        rows = [row for item in work.items for row in _rows(processes, item, arguments.runs, chunk)]
        isa = processes[_DENSE].facts["isa"]
    return {
        "suite": "end_to_end",
        **settled,
        "isa": isa,
        "num_threads": arguments.num_threads,
        "bundle": str(arguments.bundle),
        "model": f"{manifest.name} ({manifest.weights})",
        "text": work.source,
        "runs": arguments.runs,
        "decode_tokens": arguments.decode_tokens,
        "load": load,
        "rows": rows,
        "peers": peers,
        "peers_from": None if arguments.peers is None else str(arguments.peers),
        "skipped": {"stock dense attention in LiteRT": _NO_STOCK},
    }


def _settings(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What each session is opened with, by name; dense first."""
    from shadowattn.runtime.evaluate.options import EvalOptions

    common = {"num_threads": arguments.num_threads, "isa": arguments.isa}
    variants = EvalOptions(modes=tuple(arguments.modes), keep_ratios=("auto",)).variants()
    return {variant.name: variant.session_options() | common for variant in variants}


def _rows(processes: "dict[str, SessionProcess]", item: "Item", runs: int, chunk: int) -> list[dict[str, Any]]:
    """A row per setting. Prompts come in ascending length, so that a process's peak of memory is this prompt's."""
    from shadowattn.runtime.measure.comparison import difference, medians

    taken: dict[str, list[Run]] = {name: [] for name in processes}
    # As `shadowattn bench` does it: whole chunks fewer, the same last ones
    warm_up = dataclasses.replace(item, prompt=item.prompt[: len(item.prompt) % chunk + chunk])
    assert item.continuation is not None, "cut from a text"
    for process in processes.values():
        process.run(warm_up.prompt, item.continuation)
    for turn in range(runs):
        for name in processes if turn % 2 == 0 else reversed(processes):
            print(f"bench: end to end {len(item.prompt):,}, {name}, run {turn + 1}", file=sys.stderr, flush=True)
            run = processes[name].run(item.prompt, item.continuation, want_logits=turn == 0)
            taken[name].append(run)
    dense = taken[_DENSE]
    rows = []
    for name, done in taken.items():
        assert done[0].logits is not None
        assert dense[0].logits is not None
        row = {"prompt_tokens": len(item.prompt), "setting": name} | medians(done)
        row["ttft_x_dense"] = medians(dense)["ttft_s"] / row["ttft_s"]
        row["tpot_x_dense"] = medians(dense)["tpot_ms"] / row["tpot_ms"]
        rows.append(row | dataclasses.asdict(difference(dense[0].logits, done[0].logits)))
    return rows


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(words)
    command = command_line(Path(__file__).name, sys.argv[1:] if words is None else words)
    try:
        result = {"command": command} | measure(arguments, settle(arguments.isa, arguments.num_threads))
    except (ValueError, RuntimeError, OSError) as error:
        raise SystemExit(f"bench: {error}") from None
    return write(result, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
