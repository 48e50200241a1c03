"""`make bench`: how fast this project is on this machine: attention alone, threads, and end to end in several modes.

python benchmarks/bench.py [--short] [--long] [--only=PART,...] [--isa=avx512vnni] [--publish]
    [--bundle=...] [--text=...] [--modes=...] [--num_threads=1]

Each part is a script of its own in a process of its own (attention_speed.py, thread_scaling.py, end_to_end.py), so that
it can hold the process to an instruction set; JSON, tables and pictures go to build/bench. Run it on a quiet machine.
The peers, end to end, are measured by `make bench-peers`.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machine
from attention_speed import BUNDLE, MODES, command_line
from isa_limit import ISAS, usual_isa
from peers.systems import OURS
from publish import publish
from speed_document import page_of, write_document
from texts import held_out_text

from shadowattn.models.bundle import MANIFEST

OUT = Path("build/bench")
PARTS = ("attention_speed", "thread_scaling", "end_to_end")
# Whether it all works, within a minute on a tiny bundle; the figures say little.
_SHORT = {
    "attention_speed": "--lengths=64,128 --layers=2 --runs=2 --long_runs=2 --decode_steps=4 --gemm=256",
    "thread_scaling": "--lengths=64,128 --runs=2 --decode_steps=4",
    "end_to_end": "--lengths=32,64 --rounds=1 --decode_tokens=2",
}


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="default: the one `make demo` makes")
    parser.add_argument("--text", type=Path, default=None, help="default: the Brown corpus, else another held-out text")
    parser.add_argument("--out", type=Path, default=None, help="default: build/bench, or build/bench/short")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between; default: all")
    parser.add_argument("--modes", default=",".join(MODES), help="of our op, such as dense,int8,shadow,shadow@0.05")
    parser.add_argument("--isa", choices=ISAS, default=usual_isa(), help="what every library may use at most")
    parser.add_argument("--num_threads", type=int, default=1, help="of attention alone and end to end")
    parser.add_argument("--long", action="store_true", help="attention also at 16,384 and 32,768 rows")
    parser.add_argument("--short", action="store_true", help="a trial: does it all work")
    parser.add_argument("--publish", action="store_true", help="write the page below docs/figures, too")
    return parser.parse_args(words)


def commands(arguments: argparse.Namespace, out: Path, text: Path) -> dict[str, list[str]]:
    """Part -> the words of its script's command line."""
    common = [f"--bundle={arguments.bundle}", f"--text={text}", f"--isa={arguments.isa}"]
    own = {
        "attention_speed": [f"--modes={arguments.modes}", f"--json={out / 'attention_speed.json'}"],
        "thread_scaling": [f"--modes={arguments.modes}", f"--json={out / 'thread_scaling.json'}"],
        "end_to_end": [f"--systems={_systems(arguments.modes)}", f"--out={out / 'end_to_end'}", "--force"],
    }
    found = {}
    for part in _selected(arguments.only):
        words = [*common, *own[part]]
        words += _SHORT[part].split() if arguments.short else []
        if part != "thread_scaling":
            words.append(f"--num_threads={arguments.num_threads}")
        if part == "attention_speed" and arguments.long:
            words.append("--long")
        found[part] = words
    return found


def _systems(modes: str) -> str:
    """Dense first: it is what end_to_end.py compares with."""
    wanted = dict.fromkeys(["dense", *modes.split(",")])
    return ",".join(f"{OURS}:{mode}" for mode in wanted)


def run(part: str, words: Sequence[str], result: Path) -> str | None:
    """Why the part has no result, or None. What it prints goes on to our own output."""
    result.unlink(missing_ok=True)  # of an earlier run: a part that fails must not show it
    if part == "thread_scaling" and len(machine.topology()) < 2:
        return "this process may use one CPU only"
    print(f"bench: {command_line(f'{part}.py', words)}", file=sys.stderr, flush=True)
    script = Path(__file__).resolve().parent / f"{part}.py"
    done = subprocess.run([sys.executable, str(script), *words], stderr=subprocess.PIPE, text=True, check=False)
    sys.stderr.write(done.stderr)
    if done.returncode == 0:
        return None
    last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
    return f"failed ({done.returncode}): {last.split(': ', 1)[-1]}"


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(words)
    if not (arguments.bundle / MANIFEST).is_file():
        raise SystemExit(f"bench: {arguments.bundle}: there is no bundle; run `make demo` first, or give --bundle")
    out = arguments.out or (OUT / "short" if arguments.short else OUT)
    out.mkdir(parents=True, exist_ok=True)
    try:
        text = arguments.text or held_out_text()
    except ValueError as error:
        raise SystemExit(f"bench: {error}") from None
    results: list[dict[str, Any]] = []
    missing: list[str] = []
    for part, part_words in commands(arguments, out, text).items():
        result = out / f"{part}.json"
        if (reason := run(part, part_words, result)) is None:
            results.append(json.loads(result.read_text("utf-8")))
        else:
            missing.append(f"{part}: {reason}")
            print(f"bench: MISSING {missing[-1]}", file=sys.stderr)
    flags = [word for word in (sys.argv[1:] if words is None else words) if word != "--publish"]
    again = f"make bench BENCH={shlex.quote(shlex.join(flags))}" if flags else "make bench"
    document = write_document(out / "performance.md", again, results, missing)
    print(f"wrote {document}")
    if arguments.publish and results:
        print("wrote", ", ".join(map(str, publish(document, page_of(document, results)))))
    return 1 if any("failed" in reason for reason in missing) else 0


def _selected(only: str) -> list[str]:
    wanted = only.split(",")
    for name in wanted:
        if name not in PARTS:
            raise SystemExit(f"bench: --only: wanted some of {', '.join(PARTS)}, got {name!r}")
    return [part for part in PARTS if part in wanted]


if __name__ == "__main__":
    sys.exit(main())
