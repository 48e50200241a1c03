"""What quantised weights lost: bundles against the float32 model they came from, on held-out texts and in short chats.

python benchmarks/weights.py --model=FILE [--bundles=.demo/smollm2.bundle]
    [--float_bundle=.demo/smollm2-float32.bundle] [--tokens=8192] [--window=2048] [--out=build/weights] [--publish]

`make weights` runs it on the demo's model. Attention is dense everywhere. Answers are compared with the float32
bundle's, 16 greedy tokens for each line of benchmarks/chat_questions.txt.
"""

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machine
from publish import publish
from texts import HELD_OUT, fetch_texts, warn

import shadowattn
from shadowattn.models.bundle import read_manifest
from shadowattn.runtime.evaluate.evaluation import evaluate
from shadowattn.runtime.evaluate.options import EvalOptions

QUESTIONS = Path(__file__).parent / "chat_questions.txt"
ANSWER_TOKENS = 16
PAGE = Path("docs/figures/weights.md")


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=_paths, default=(Path(".demo/smollm2.bundle"),), help="with commas between")
    parser.add_argument("--float_bundle", type=Path, default=Path(".demo/smollm2-float32.bundle"))
    parser.add_argument("--model", type=Path, required=True, help="the float model: GGUF file or folder")
    parser.add_argument("--texts", type=_paths, default=None, help="default: the held-out ones of benchmarks/texts.py")
    parser.add_argument("--tokens", type=int, default=8192, help="of each text")
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--out", type=Path, default=Path("build/weights"), help="where results go, without the ending")
    parser.add_argument("--publish", action="store_true", help=f"write {PAGE}, too")
    return parser.parse_args(words)


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(map(Path, text.split(",")))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """A row per bundle and text, and how often its answers are the float model's. Raises ValueError."""
    texts = arguments.texts or tuple(text.path for text in fetch_texts(warn) if text.role == HELD_OUT)
    options = EvalOptions(
        modes=("dense",), window=arguments.window, max_tokens=arguments.tokens, texts=tuple(map(str, texts)),
        reference=str(arguments.model),
    )  # fmt: skip
    questions = QUESTIONS.read_text("utf-8").splitlines()
    wanted = answers(arguments.float_bundle, questions)
    rows, chats = [], []
    for bundle in arguments.bundles:
        report = evaluate(bundle, options)
        name = {"weights": report["weights"], "bytes": sum(f.bytes for f in read_manifest(bundle).files.values())}
        rows += [name | row for row in report["rows"] if not row["base"]]
        same = [a == b for a, b in zip(answers(bundle, questions), wanted, strict=True)]
        chats.append(name | {"same_answers": sum(same), "questions": len(questions)})
    return {
        "model": report["model"],
        "machine": machine.describe(machine.topology()),
        "isa": report["isa"],
        "tokens": arguments.tokens,
        "window": arguments.window,
        "rows": rows,
        "chats": chats,
    }


def answers(bundle: Path, questions: Sequence[str]) -> list[str]:
    """The text of each answer's first tokens, the likeliest ones, with dense attention."""
    with shadowattn.open(bundle, mode="dense") as session:
        return [session.chat([{"role": "user", "content": text}], ANSWER_TOKENS).read() for text in questions]


def document(result: dict[str, Any], command: str) -> str:
    """The tables, as Markdown."""
    header = ("weights", "text", "KL mean", "KL p99", "same top %", "perplexity %", "+- %")
    lines = [
        [
            *(row[name] for name in ("weights", "text")),
            *(f"{row[name]:.4f}" for name in ("kl_mean", "kl_p99")),
            f"{100 * row['same_top']:.1f}",
            *(f"{row[name]:+.2f}" if name == "change_percent" else f"{row[name]:.2f}" for name in _CHANGES),
        ]
        for row in result["rows"]
    ]
    chats = [
        [row["weights"], f"{row['bytes'] / 1e6:.1f}", f"{row['same_answers']} of {row['questions']}"]
        for row in result["chats"]
    ]
    about = (
        f"{result['model']}, {result['machine']['processor']}, ISA {result['isa']}, dense attention, windows of "
        f"{result['window']:,} tokens, {result['tokens']:,} tokens of each text. Against the float32 model that the "
        f"bundles were made from; answers ({ANSWER_TOKENS} greedy tokens) against the float32 bundle's. Nothing was "
        "fitted to these texts."
    )
    tables = [_markdown(header, lines), _markdown(("weights", "MB", "same answers"), chats)]
    return "\n\n".join(["# What quantised weights lost", textwrap.fill(about, 120), f"    {command}", *tables]) + "\n"


_CHANGES = ("change_percent", "loss_change_stderr")


def _markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(words)
    try:
        result = measure(arguments)
    except (ValueError, OSError) as error:
        raise SystemExit(f"weights: {error}") from None
    out: Path = arguments.out
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    page = out.with_suffix(".md")
    page.write_text(document(result, "make weights"), "utf-8")
    print(page.read_text("utf-8"))
    if arguments.publish:
        print("wrote", ", ".join(map(str, publish(page, PAGE))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
