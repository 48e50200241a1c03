"""Whole models end to end: time to first token, decoding rate, peak memory and load time of our runtime and its peers.

python benchmarks/end_to_end.py [--systems=shadowattn,openvino:xattention,openvino,litert_lm,llama_cpp,torch]
    [--lengths=512,2048,4096,8000] [--rounds=5] [--long_rounds=3] [--num_threads=1] [--isa=avx512vnni]
    [--decode_tokens=32] [--bundle=.demo/smollm2.bundle] [--text=build/texts/brown.txt] [--out=build/bench/peers]
    [--force] [--publish]

`make bench-peers` runs it, after benchmarks/peers/set_up.sh has installed the peers. Rounds are interleaved: each runs
every system once on every length, each time in a process of its own; figures are medians of the rounds. Before, every
system is asked for its first token, which is compared with torch's. Finished runs lie in OUT.jsonl, so that the command
may be stopped and given again; the result goes to OUT.json, OUT.md and OUT_ttft.png.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import machine
from attention_speed import add_common_flags, command_line, names, numbers
from peers.files import MODELS, PEERS_DIR
from peers.journal import ANSWERS, Cell, Journal, plan
from peers.processes import Setting, run_system
from peers.rows import find_rows, reference_of
from peers.systems import DEFAULT, OURS, system_named
from publish import publish
from recorded import read_tokens
from remaining import Remaining
from speed_document import page_of, write_document
from texts import held_out_text

from shadowattn.models.bundle import MANIFEST, read_manifest
from shadowattn.runtime.litert.delegate import library_path
from shadowattn.runtime.text.tokenizer import BundleTokenizer

LENGTHS = (512, 2048, 4096, 8000)
OUT = Path("build/bench/peers")
_STOPPED = 130
_LONG = 4096  # tokens
_STARTS = 64  # how far into the text a prompt may begin
_FIRST_TOKENS = 32  # by which a text is known again


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    parser.set_defaults(text=None)
    parser.add_argument("--systems", type=names, default=DEFAULT, help="with commas between; others: shadowattn:MODE")
    parser.add_argument("--lengths", type=numbers, default=LENGTHS, help="prompt tokens, with commas between")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed; 0: answers only")
    parser.add_argument("--long_rounds", type=int, default=None, help=f"of prompts over {_LONG:,} tokens, if fewer")
    parser.add_argument("--num_threads", type=int, default=1)
    parser.add_argument("--decode_tokens", type=int, default=32, help="greedy tokens after the first")
    parser.add_argument("--peers_dir", type=Path, default=Path(os.environ.get("PEERS_DIR", PEERS_DIR)))
    parser.add_argument("--models", type=Path, default=None, help=f"of the peers; default: {MODELS} in --peers_dir")
    parser.add_argument("--out", type=Path, default=OUT, help="where results go, without the ending")
    parser.add_argument("--force", action="store_true", help="measure again what is there")
    parser.add_argument("--publish", action="store_true", help="write the page below docs/figures, too")
    return parser.parse_args(words)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The result. Raises ValueError for systems, lengths or a text that cannot be measured."""
    systems = [system_named(name) for name in arguments.systems]
    installed = [system for system in systems if system.interpreter(arguments.peers_dir) is not None]
    facts, tokens = _settle(arguments)
    setting = Setting(
        arguments.peers_dir, arguments.models or arguments.peers_dir / MODELS, arguments.bundle, arguments.num_threads,
        arguments.isa, tuple(facts["cores"]),
    )  # fmt: skip
    processor = facts["machine"]["processor"]
    conditions = _conditions(arguments) | {"processor": processor, "first_tokens": tokens[:_FIRST_TOKENS]}
    journal = Journal(arguments.out.with_suffix(".jsonl"), conditions, arguments.force)
    long = arguments.rounds if arguments.long_rounds is None else arguments.long_rounds
    rounds = {length: long if length > _LONG else arguments.rounds for length in arguments.lengths}
    cells = plan([system.name for system in installed], rounds)
    with _token_files(arguments.bundle, tokens, arguments.lengths) as files:
        failed = _run(cells, journal, setting, files, arguments.decode_tokens)
    found = find_rows(systems, installed, rounds, journal)
    return {
        "suite": "end_to_end",
        **facts,
        **_isa(arguments.isa, found["systems"]),
        "rounds": arguments.rounds,
        "long_rounds": long,
        "decode_tokens": arguments.decode_tokens,
        "reference": reference_of(installed),
        "failed": failed,
        "skipped": {system.title: "not installed" for system in systems if system not in installed},
        **found,
    }


def _settle(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[int]]:
    """The machine, the model and the text; and tokens enough for the longest prompt, wherever it begins."""
    manifest = read_manifest(arguments.bundle)
    longest = max(arguments.lengths)
    if longest + arguments.decode_tokens > manifest.max_length:
        raise ValueError(
            f"--lengths: {longest:,} tokens and {arguments.decode_tokens:,} after them need more than the "
            f"{manifest.max_length:,} positions of {arguments.bundle}; give shorter ones"
        )
    text = None if manifest.tokenizer.file is None else arguments.text or held_out_text()
    tokens, source = read_tokens(arguments.bundle, manifest, text, longest + _STARTS)
    cpus = machine.topology()
    facts = {
        "machine": machine.describe(cpus),
        "cores": machine.cores_for(arguments.num_threads, cpus),
        "num_threads": arguments.num_threads,
        "bundle": str(arguments.bundle),
        "model": f"{manifest.name} ({manifest.weights})",
        "text": source,
    }
    return facts, tokens


def _conditions(arguments: argparse.Namespace) -> dict[str, Any]:
    """What measurements must have in common to stand in one table."""
    files = {"bundle": arguments.bundle / MANIFEST, "delegate": library_path()}
    hashes: dict[str, Any] = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    return hashes | {name: getattr(arguments, name) for name in ("num_threads", "isa", "decode_tokens")}


def _isa(asked: str, systems: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """isa: of our delegate, where it ran."""
    ours = [system["isa"] for system in systems if system["name"].startswith(OURS) and system["isa"]]
    limits = [system["limits"] for system in systems if system["limits"]]
    return {"isa": ours[0] if ours else asked, "isa_asked": asked, "limits": limits[0] if limits else "nothing ran"}


@contextlib.contextmanager
def _token_files(bundle: Path, tokens: Sequence[int], lengths: Sequence[int]) -> Iterator[dict[int, Path]]:
    """Length -> a file with so many tokens, for the processes."""
    manifest = read_manifest(bundle)
    tokenizer = BundleTokenizer.open(bundle, manifest) if manifest.tokenizer.file else None
    with tempfile.TemporaryDirectory() as folder:
        files = {length: Path(folder) / f"{length}.json" for length in lengths}
        for length, path in files.items():
            path.write_text(json.dumps(prompt_of(tokens, length, tokenizer)), "utf-8")
        yield files


def prompt_of(tokens: Sequence[int], length: int, tokenizer: BundleTokenizer | None) -> list[int]:
    """The first `length` neighbours that are the tokens of their own text: some peers are given that. Raises
    ValueError where none of the first _STARTS is."""
    for start in range(_STARTS):
        found = list(tokens[start : start + length])
        if tokenizer is None or tokenizer.encode(tokenizer.decode(found), add_special_tokens=False) == found:
            return found
    raise ValueError(f"--text: wanted {length:,} tokens that the tokenizer makes of their own text; give another text")


def _run(
    cells: Sequence[Cell], journal: Journal, setting: Setting, files: dict[int, Path], decode_tokens: int
) -> list[dict[str, Any]]:
    """Measures what the journal has not; what failed, and why. Who cannot answer a prompt is not timed on it."""
    failed: list[dict[str, Any]] = []
    waiting = [cell for cell in cells if journal.find(cell) is None]
    remaining = Remaining(sum(cell.cost() for cell in waiting))
    for cell in waiting:
        if any((cell.system, cell.length) == (other["system"], other["length"]) for other in failed):
            remaining.skipped(cell.cost())
            continue
        what = "answers" if cell.round == ANSWERS else f"round {cell.round}"
        note = f"bench-peers: {what}, {cell.length:,} tokens, {cell.system}{remaining.in_words()}"
        print(note, file=sys.stderr, flush=True)
        steps = 0 if cell.round == ANSWERS else decode_tokens
        outcome = run_system(system_named(cell.system), setting, files[cell.length], steps)
        journal.add(cell, outcome)
        if "failed" in outcome:
            print(f"bench-peers: FAILED {cell.system}: {outcome['failed']}", file=sys.stderr)
            failed.append({"system": cell.system, "length": cell.length, "reason": outcome["failed"]})
        remaining.finished(cell.cost())
    return failed


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(words)
    given = [word for word in (sys.argv[1:] if words is None else words) if word not in ("--force", "--publish")]
    try:
        result = {"command": command_line(Path(__file__).name, given)} | measure(arguments)
    except (ValueError, OSError) as error:
        raise SystemExit(f"bench-peers: {error}") from None
    except KeyboardInterrupt:
        print("bench-peers: stopped; the same command goes on from here", file=sys.stderr)
        return _STOPPED
    out = arguments.out
    out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    again = f"make bench-peers BENCH_PEERS={shlex.quote(shlex.join(given))}" if given else "make bench-peers"
    document = write_document(out.with_suffix(".md"), again, [result], [])
    print(document.read_text("utf-8"))
    print("wrote", document)
    if arguments.publish:
        print("wrote", ", ".join(map(str, publish(document, page_of(document, [result])))))
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
