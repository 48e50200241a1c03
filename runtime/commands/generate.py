"""`shadowattn generate`: answers a prompt with a bundle, or chats with it."""

import math
import sys
from collections.abc import Callable

from absl import flags

from shadowattn.runtime.commands.output import print_json
from shadowattn.runtime.commands.pipeline_flags import (
    PIPELINE_RESEARCH,
    check_pipeline_flags,
    define_pipeline_flags,
    trace_needs_the_pipeline,
)
from shadowattn.runtime.commands.session_flags import (
    SESSION_RESEARCH,
    bundle_and_words,
    check_bundle,
    define_session_flags,
    readable_file,
    require_finite,
    require_share,
)
from shadowattn.runtime.commands.speaker import Speaker, open_speaker, print_notes, print_statistics
from shadowattn.runtime.text.files import decode_prompt, read_prompt

_STDIN = "-"


class Generate:
    """The subcommand; the contract is in shadowattn.runtime.cli."""

    name = "generate"
    summary = "answer a prompt with a bundle, or chat with it when no prompt is given"
    usage = "BUNDLE [PROMPT] [flags]        (-: the prompt comes from standard input)"
    example = (
        "shadowattn generate smollm2.bundle --chat 'What is a list comprehension?'\n"
        "shadowattn generate -m smollm2.bundle -p 'Once upon a time' -n 64 --temp=0.8\n"
        "shadowattn generate smollm2.bundle --chat --prompt_file=question.txt --keep_ratio=0.1 --stats\n"
        "shadowattn generate smollm2.bundle --prompt_file=question.txt --npu='delegate:libvendor.so' --trace=run.json\n"
        "cat report.txt | shadowattn generate smollm2.bundle - --json\n"
        "shadowattn generate smollm2.bundle --system='You answer in one sentence.'    # interactive"
    )
    research = (*SESSION_RESEARCH, *PIPELINE_RESEARCH)

    def define_flags(self, flag_values: flags.FlagValues) -> None:
        _define_prompt_flags(flag_values)
        most = "most tokens of an answer"
        flags.DEFINE_integer("max_new_tokens", 256, most, short_name="n", lower_bound=1, flag_values=flag_values)
        _define_sampling_flags(flag_values)
        flags.DEFINE_bool("stats", False, "times and counts under every answer, on stderr", flag_values=flag_values)
        flags.DEFINE_bool("json", False, "print one JSON object instead of text", flag_values=flag_values)
        define_session_flags(flag_values)
        define_pipeline_flags(flag_values)

    def run(self, positional: list[str], flag_values: flags.FlagValues) -> int:
        bundle, words = bundle_and_words(positional, flag_values, f"shadowattn generate {self.usage}")
        read = _prompt_source(words, flag_values)
        if read is None and flag_values.json:
            raise flags.Error("--json needs a prompt, it has no meaning in an interactive chat")
        if flag_values.system and read is not None and not flag_values.chat:
            raise flags.Error("--system needs --chat")
        trace_needs_the_pipeline(flag_values)
        check_pipeline_flags(flag_values)
        check_bundle(bundle)
        prompt = None if read is None else _checked(read())
        with open_speaker(bundle, flag_values, chat=flag_values.chat or prompt is None) as speaker:
            if prompt is None:
                return _converse(speaker, flag_values.stats)
            return _answer_once(speaker, prompt, flag_values)


def _converse(speaker: Speaker, show_statistics: bool) -> int:
    from shadowattn.runtime.commands.chat_loop import ChatLoop

    assert speaker.conversation is not None
    return ChatLoop(speaker, speaker.conversation, show_statistics).run()


def _answer_once(speaker: Speaker, prompt: str, flag_values: flags.FlagValues) -> int:
    token_ids = speaker.conversation.ask(prompt) if speaker.conversation else speaker.tokenizer.encode(prompt)
    answer, facts = speaker.answer(token_ids, on_interrupt="raise")
    if flag_values.json:
        print_json(facts, indent=None)
    else:
        print()
    if flag_values.stats:
        print_statistics(facts)
    print_notes(answer, facts, speaker.session.max_length)
    return 0


def _define_sampling_flags(flag_values: flags.FlagValues) -> None:
    """What is unset is as the bundle's makers have it."""
    temperature = "0 takes the likeliest token (also --temp); default of this and the next three: the bundle's"
    flags.DEFINE_float("temperature", None, temperature, lower_bound=0.0, flag_values=flag_values)
    require_finite("temperature", flag_values)
    flags.DEFINE_alias("temp", "temperature", flag_values=flag_values)
    flags.DEFINE_integer(
        "top_k", None, "draw from the k likeliest tokens, 0: from all", lower_bound=0, flag_values=flag_values
    )
    flags.DEFINE_float("top_p", None, "draw from the likeliest tokens with this mass", flag_values=flag_values)
    require_share("top_p", flag_values)
    penalty = "above 1 makes tokens less likely that were there before, 1 changes nothing"
    flags.DEFINE_float("repetition_penalty", None, penalty, flag_values=flag_values)
    flags.register_validator(
        "repetition_penalty",
        lambda value: value is None or 0 < value < math.inf,
        "wanted a positive number",
        flag_values,
    )
    flags.DEFINE_integer("seed", None, "makes drawing repeatable", lower_bound=0, flag_values=flag_values)


def _define_prompt_flags(flag_values: flags.FlagValues) -> None:
    prompt = "the prompt, - for standard input"
    flags.DEFINE_string("prompt", None, prompt, short_name="p", flag_values=flag_values)
    flags.DEFINE_string("prompt_file", None, "a file with the prompt, - for standard input", flag_values=flag_values)
    flags.DEFINE_bool("chat", False, "put the prompt into the model's chat template", flag_values=flag_values)
    flags.DEFINE_string("system", None, "the system message of a chat", flag_values=flag_values)


def _prompt_source(words: list[str], flag_values: flags.FlagValues) -> Callable[[], str] | None:
    """What reads the prompt from wherever it was given; None: nowhere, and a terminal is there to ask. Raises
    flags.Error, and for a file or stream that is not there what opening it raises."""
    sources: dict[str, Callable[[], str]] = {}
    if flag_values.prompt is not None:
        sources["--prompt"] = _word_or_stdin("--prompt", flag_values.prompt)
    if flag_values.prompt_file is not None:
        sources["--prompt_file"] = _file(flag_values.prompt_file)
    if words:
        sources[_STDIN if words == [_STDIN] else "a prompt as argument"] = _word_or_stdin("prompt", words[0])
    if len(sources) > 1:
        raise flags.Error(f"wanted one prompt, got {' and '.join(sources)}")
    if sources:
        return next(iter(sources.values()))
    if sys.stdin is None or not sys.stdin.isatty():
        raise flags.Error("wanted a prompt: --prompt=TEXT, --prompt_file=FILE, or - to read standard input")
    return None


def _word_or_stdin(where: str, text: str) -> Callable[[], str]:
    return _file(_STDIN) if text == _STDIN else lambda: _check_argument(where, text)


def _file(name: str) -> Callable[[], str]:
    """Looks for it now, so that a wrong name is known before work begins, and reads it later."""
    if name != _STDIN:
        path = readable_file(name)
        return lambda: read_prompt(path)
    if sys.stdin is None:
        raise ValueError("standard input is closed; give the prompt with --prompt or --prompt_file")
    return lambda: decode_prompt("standard input", sys.stdin.buffer.read())


def _checked(prompt: str) -> str:
    if not prompt.strip():
        raise ValueError("the prompt is empty; give a text with --prompt, --prompt_file or on standard input")
    return prompt


def _check_argument(where: str, text: str) -> str:
    """Bytes of a command line that are no UTF-8 arrive as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where}: not UTF-8 text (character {error.start}); check the terminal's encoding") from None
    return text


COMMAND = Generate()
