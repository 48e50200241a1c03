"""An open session that answers, for `shadowattn generate`: the answer's text as it comes, and what to say about it."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from shadowattn.models.progress import Progress, waiting
from shadowattn.runtime.commands.pipeline_flags import pipeline_overrides
from shadowattn.runtime.commands.session_flags import open_session

if TYPE_CHECKING:  # loaded by open_speaker(): `--help` needs none of it
    from shadowattn.runtime.session.session import Session
    from shadowattn.runtime.text.answer import Answer, Sampling
    from shadowattn.runtime.text.chat import Conversation
    from shadowattn.runtime.text.tokenizer import BundleTokenizer

Facts = dict[str, Any]


@dataclasses.dataclass
class Speaker:
    """conversation: None where a prompt is completed as it is. quiet: the answer's text is not printed."""

    session: "Session"
    tokenizer: "BundleTokenizer"
    conversation: "Conversation | None"
    sampling: "Sampling"
    max_new_tokens: int
    quiet: bool

    def answer(self, token_ids: list[int], on_interrupt: str) -> "tuple[Answer, Facts]":
        """Prints the answer as it comes. Raises ValueError if the prompt does not fit."""
        from shadowattn.runtime.text.answer import AnswerStream

        self.session.reset_stats()
        prefilled = len(token_ids)
        with Progress("prefill", "tokens") as prefill, Progress("answer", "tokens") as decode:

            def on_progress(done: int, total: int) -> None:
                nonlocal prefilled
                prefilled = total
                prefill.update(done, total)

            def write(piece: str) -> None:
                prefill.close()
                if self.quiet:
                    decode.update(self.session.length - len(token_ids), self.max_new_tokens)
                else:
                    print(piece, end="", flush=True)

            stream = AnswerStream(self.session, self.tokenizer, write)
            answer = stream.run(
                token_ids,
                self.max_new_tokens,
                self.sampling,
                continues_prompt=self.conversation is None,
                on_progress=on_progress,
                on_interrupt=on_interrupt,
            )
        return answer, _facts(answer, prefilled, self.session)


@contextlib.contextmanager
def open_speaker(bundle: Path, flag_values: flags.FlagValues, chat: bool) -> Iterator[Speaker]:
    """The small files first, so that a bundle without tokenizer or template fails before the model is loaded."""
    from shadowattn.models.bundle import read_manifest
    from shadowattn.runtime.pipeline.trace import traced
    from shadowattn.runtime.text.answer import Sampling
    from shadowattn.runtime.text.chat import ChatTemplate, Conversation
    from shadowattn.runtime.text.tokenizer import BundleTokenizer

    manifest = read_manifest(bundle)
    tokenizer = BundleTokenizer.open(bundle, manifest)
    conversation = None
    if chat:
        conversation = Conversation(ChatTemplate.open(bundle, manifest), tokenizer, flag_values.system)
    defaults = dataclasses.asdict(manifest.sampling)
    given = {name: flag_values[name].value for name in defaults}
    chosen = defaults | {name: value for name, value in given.items() if value is not None}
    sampling = Sampling(**chosen, seed=flag_values.seed)
    with waiting(f"opening {bundle}"):
        session = open_session(bundle, flag_values, **pipeline_overrides(bundle, flag_values))
    with session, contextlib.ExitStack() as stack:
        if flag_values.trace:
            stack.enter_context(traced(session.pipelined.clock, Path(flag_values.trace), model=manifest.name))
        yield Speaker(session, tokenizer, conversation, sampling, flag_values.max_new_tokens, flag_values.json)


def print_statistics(facts: Facts) -> None:
    """The line under an answer, on standard error."""
    reused = facts["prompt_tokens"] - facts["prefilled_tokens"]
    parts = [f"{facts['prompt_tokens']:,} prompt tokens" + (f" ({reused:,} reused)" if reused else "")]
    if facts["ttft_s"] is not None:
        parts.append(f"TTFT {facts['ttft_s']:.2f} s")
    parts.append(f"{facts['new_tokens']:,} new tokens")
    if facts["tpot_ms"] is not None:
        parts.append(f"TPOT {facts['tpot_ms']:.1f} ms")
    parts.append(f"mean keep_ratio {facts['mean_keep_ratio']:.3f}")
    if facts["pipeline"] is not None:
        parts.append(_pipeline(facts["pipeline"]))
    print(f"[{', '.join(parts)}]", file=sys.stderr)


def print_notes(answer: "Answer", facts: Facts, max_length: int) -> None:
    """What the reader must know about an answer: that it was cut, or is less exact than it could be."""
    from shadowattn.runtime.session.generation import CONTEXT_FULL, MAX_NEW_TOKENS

    if answer.stopped_by == CONTEXT_FULL:
        total = answer.prompt_tokens + len(answer.token_ids)
        _note(
            f"the answer was cut: the context is full ({total:,} of {max_length:,} tokens); "
            "shorten the prompt, start the chat anew, or convert the model with a larger --max_length"
        )
    if answer.stopped_by == MAX_NEW_TOKENS:
        asked = len(answer.token_ids)
        _note(f"the answer was cut after {asked:,} tokens; --max_new_tokens={2 * asked} lets it go on")
    if facts["pipeline"] is not None and facts["pipeline"]["outside"]:
        _note(_outside(facts["pipeline"]))


def _note(text: str) -> None:
    print(f"shadowattn: {text}", file=sys.stderr)


def _facts(answer: "Answer", prefilled: int, session: "Session") -> Facts:
    stats = session.stats()
    return {
        "text": answer.text,
        "stopped_by": answer.stopped_by,
        "prompt_tokens": answer.prompt_tokens,
        "prefilled_tokens": prefilled,
        "new_tokens": len(answer.token_ids),
        "ttft_s": answer.ttft,
        "tpot_ms": answer.tpot,
        "mean_keep_ratio": stats.mean_keep_ratio,
        "token_ids": list(answer.token_ids),
        "pipeline": _pipeline_facts(session),
    }


def _pipeline_facts(session: "Session") -> Facts | None:
    """None with the fused executor."""
    try:
        executor = session.pipelined
    except ValueError:
        return None
    return {"estimates": executor.npu_name, **executor.record.totals()}


def _pipeline(facts: Facts) -> str:
    """What the estimates were, and what overlap gained."""
    if not facts["launches"]:
        return "no estimate was launched"
    gained = f"gain {facts['gain']:.2f} of at most {facts['bound']:.2f}"
    return f"{facts['launches']:,} launches by {facts['estimates']}, {gained}"


def _outside(facts: Facts) -> str:
    """Scales that the grid of estimate graphs lacks."""
    return f"{facts['outside']:,} scales outside every bucket ({facts['clamped']:,} elements clamped)"
