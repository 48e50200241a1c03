"""`shadowattn generate`: answers a prompt with a bundle, or chats with it."""

import contextlib
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from shadowattn.models.progress import Progress, waiting
from shadowattn.runtime.commands.pipeline_flags import define_pipeline_flags, output_file, pipeline_overrides
from shadowattn.runtime.commands.session_flags import bundle_argument, define_session_flags, open_session, require_share

if TYPE_CHECKING:  # loaded by run(): `--help` needs none of it
    from shadowattn.runtime.session.session import Session
    from shadowattn.runtime.text.answer import Answer, Sampling
    from shadowattn.runtime.text.chat import Conversation
    from shadowattn.runtime.text.tokenizer import BundleTokenizer

_STDIN = "-"


class Generate:
    """The subcommand; the contract is in shadowattn.runtime.cli."""

    name = "generate"
    summary = "answer a prompt with a bundle, or chat with it when no prompt is given"
    usage = "BUNDLE [-] [flags]        (-: the prompt comes from standard input)"
    example = (
        "shadowattn generate smollm2.bundle --chat --prompt='What is a list comprehension?'\n"
        "shadowattn generate smollm2.bundle --chat --prompt_file=question.txt --keep_ratio=0.1 --max_new_tokens=64\n"
        "shadowattn generate smollm2.bundle --prompt_file=question.txt --npu='delegate:libvendor.so' --trace=run.json\n"
        "cat report.txt | shadowattn generate smollm2.bundle - --json\n"
        "shadowattn generate smollm2.bundle --system='You answer in one sentence.'    # interactive"
    )

    def define_flags(self, flag_values: flags.FlagValues) -> None:
        flags.DEFINE_string("prompt", None, "the prompt", flag_values=flag_values)
        flags.DEFINE_string(
            "prompt_file", None, "a file with the prompt, - for standard input", flag_values=flag_values
        )
        flags.DEFINE_bool("chat", False, "put the prompt into the model's chat template", flag_values=flag_values)
        flags.DEFINE_string("system", None, "the system message of a chat", flag_values=flag_values)
        flags.DEFINE_integer("max_new_tokens", 256, "most tokens of an answer", lower_bound=1, flag_values=flag_values)
        _define_sampling_flags(flag_values)
        flags.DEFINE_bool("json", False, "one JSON object at the end instead of text", flag_values=flag_values)
        define_session_flags(flag_values)
        define_pipeline_flags(flag_values)

    def run(self, positional: list[str], flag_values: flags.FlagValues) -> int:
        bundle = bundle_argument(positional, f"shadowattn generate {self.usage}", at_most=2)
        prompt = _read_prompt(positional[1:], flag_values)
        if prompt is None and flag_values.json:
            raise flags.Error("--json needs a prompt, it has no meaning in an interactive chat")
        if flag_values.system and prompt is not None and not flag_values.chat:
            raise flags.Error("--system needs --chat")
        output_file("trace", flag_values.trace)
        with _open(bundle, flag_values, chat=flag_values.chat or prompt is None) as speaker:
            if prompt is None:
                return speaker.converse()
            return speaker.answer_once(prompt)


def _define_sampling_flags(flag_values: flags.FlagValues) -> None:
    """What is unset is as the bundle's makers have it."""
    flags.DEFINE_float(
        "temperature", None, "0 takes the likeliest token; default of this and the next three: the bundle's",
        lower_bound=0.0, flag_values=flag_values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "top_k", None, "draw from the k likeliest tokens, 0: from all", lower_bound=0, flag_values=flag_values
    )
    flags.DEFINE_float("top_p", None, "draw from the likeliest tokens with this mass", flag_values=flag_values)
    require_share("top_p", flag_values)
    flags.DEFINE_float(
        "repetition_penalty", None, "above 1 makes tokens less likely that were there before, 1 changes nothing",
        flag_values=flag_values,
    )  # fmt: skip
    flags.register_validator(
        "repetition_penalty",
        lambda value: value is None or 0 < value < math.inf,
        "wanted a positive number",
        flag_values,
    )
    flags.DEFINE_integer("seed", None, "makes drawing repeatable", lower_bound=0, flag_values=flag_values)


@dataclasses.dataclass
class _Speaker:
    """An open session with what it takes to speak through it."""

    session: "Session"
    tokenizer: "BundleTokenizer"
    conversation: "Conversation | None"
    sampling: "Sampling"
    max_new_tokens: int
    as_json: bool

    def answer_once(self, prompt: str) -> int:
        if not prompt.strip():
            raise ValueError("the prompt is empty; give a text with --prompt, --prompt_file or on standard input")
        token_ids = self.conversation.ask(prompt) if self.conversation else self.tokenizer.encode(prompt)
        answer, facts = self._run(token_ids, on_interrupt="raise")
        if self.as_json:
            print(json.dumps(facts, ensure_ascii=False))
        else:
            print()
            print(_statistics(facts), file=sys.stderr)
        _note_if_full(answer, self.session)
        return 0

    def converse(self) -> int:
        """Questions from the terminal until Ctrl-D. Ctrl-C ends an answer; at the prompt it ends the command."""
        conversation = self.conversation
        assert conversation is not None
        print("Ask something. /reset forgets the conversation, /exit or Ctrl-D ends it.", file=sys.stderr)
        for text in _lines_from_terminal():
            if text == "/exit":
                break
            if text == "/reset":
                conversation.clear()
                continue
            self._reply(conversation, text)
        return 0

    def _reply(self, conversation: "Conversation", text: str) -> None:
        try:
            token_ids = conversation.ask(text)
        except ValueError as error:
            print(f"shadowattn: error: {error}", file=sys.stderr)
            return
        try:
            answer, facts = self._run(token_ids, on_interrupt="keep")
        except ValueError as error:  # the conversation outgrew the context
            conversation.take_back()
            print(f"shadowattn: error: {error} (here: /reset)", file=sys.stderr)
            return
        if answer.token_ids:
            conversation.answer(answer.text)
        else:  # Ctrl-C before the first token
            conversation.take_back()
        print()
        print(_statistics(facts), file=sys.stderr)
        _note_if_full(answer, self.session)

    def _run(self, token_ids: list[int], on_interrupt: str) -> "tuple[Answer, dict[str, Any]]":
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
                if self.as_json:
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
def _open(bundle: Path, flag_values: flags.FlagValues, chat: bool) -> Iterator[_Speaker]:
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
        yield _Speaker(session, tokenizer, conversation, sampling, flag_values.max_new_tokens, flag_values.json)


def _read_prompt(extra: list[str], flag_values: flags.FlagValues) -> str | None:
    """The prompt from wherever it was given; None: nowhere, and a terminal is there to ask."""
    sources: list[tuple[str, Callable[[], str]]] = []
    if flag_values.prompt is not None:
        sources.append(("--prompt", lambda: _check_argument(flag_values.prompt)))
    if flag_values.prompt_file is not None:
        sources.append(("--prompt_file", lambda: _read_text(flag_values.prompt_file)))
    if extra:
        if extra != [_STDIN]:
            raise flags.Error(
                f"unexpected argument {extra[0]!r}; give the prompt with --prompt, or - for standard input"
            )
        sources.append((_STDIN, lambda: _read_text(_STDIN)))
    if len(sources) > 1:
        raise flags.Error(f"wanted one prompt, got {' and '.join(name for name, _ in sources)}")
    if sources:
        return sources[0][1]()
    if sys.stdin is None or not sys.stdin.isatty():
        raise flags.Error("wanted a prompt: --prompt=TEXT, --prompt_file=FILE, or - to read standard input")
    return None


def _check_argument(text: str) -> str:
    """Bytes of a command line that are no UTF-8 arrive as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"--prompt: not UTF-8 text (character {error.start}); check the terminal's encoding") from None
    return text


def _read_text(file: str) -> str:
    where = "standard input" if file == _STDIN else file
    if file == _STDIN and sys.stdin is None:
        raise ValueError("standard input is closed; give the prompt with --prompt or --prompt_file")
    data = sys.stdin.buffer.read() if file == _STDIN else Path(file).read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 text (byte {error.start}); convert it, for example with iconv") from None


def _lines_from_terminal() -> Iterator[str]:
    """Questions typed at the prompt, without empty ones."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - importing it gives input() line editing
    while True:
        try:
            text = input("> ").strip()
            text.encode()
        except EOFError:
            print()
            return
        except UnicodeError:
            print("shadowattn: error: this line is not UTF-8 text; check the terminal's encoding", file=sys.stderr)
            continue
        if text:
            yield text


def _facts(answer: "Answer", prefilled: int, session: "Session") -> dict[str, Any]:
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


def _pipeline_facts(session: "Session") -> dict[str, Any] | None:
    """None with the fused executor."""
    try:
        executor = session.pipelined
    except ValueError:
        return None
    return {"estimates": executor.npu_name, **executor.record.totals()}


def _statistics(facts: dict[str, Any]) -> str:
    """The line under an answer."""
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
    return f"[{', '.join(parts)}]"


def _pipeline(facts: dict[str, Any]) -> str:
    """What the estimates were, and what overlap gained; scales that the grid lacks, if there were any."""
    if not facts["launches"]:
        return "no estimate was launched"
    told = f"{facts['launches']:,} launches by {facts['estimates']}"
    told += f", gain {facts['gain']:.2f} of at most {facts['bound']:.2f}"
    if facts["outside"]:
        told += f", {facts['outside']:,} scales outside every bucket ({facts['clamped']:,} elements clamped)"
    return told


def _note_if_full(answer: "Answer", session: "Session") -> None:
    from shadowattn.runtime.session.session import CONTEXT_FULL

    if answer.stopped_by == CONTEXT_FULL:
        total = answer.prompt_tokens + len(answer.token_ids)
        print(
            f"shadowattn: the answer was cut: the context is full ({total:,} of {session.max_length:,} tokens); "
            "shorten the prompt, start the chat anew, or convert the model with a larger --max_length",
            file=sys.stderr,
        )


COMMAND = Generate()
