"""The interactive chat of `shadowattn generate`: questions, answers, and the /commands between them."""

import contextlib
import difflib
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from shadowattn.runtime.commands.chat_input import is_command, questions
from shadowattn.runtime.commands.failures import describe_error
from shadowattn.runtime.commands.speaker import Facts, Speaker, print_notes, print_statistics

if TYPE_CHECKING:
    from shadowattn.runtime.text.answer import Answer, PromptTooLongError
    from shadowattn.runtime.text.chat import Conversation

_NEARLY_FULL = 0.8  # of the context: from here on the meter is shown


class ChatLoop:
    """One chat. show_statistics: after every answer, not only at /stats."""

    def __init__(self, speaker: Speaker, conversation: "Conversation", show_statistics: bool) -> None:
        self._speaker = speaker
        self._conversation = conversation
        self._show_statistics = show_statistics
        self._latest: Facts | None = None
        self._commands: dict[str, tuple[str, str, Callable[[str], None]]] = {
            "/help": ("", "shows this", self._help),
            "/quit": ("", "ends the chat, as /exit and Ctrl-D do", _quit),
            "/exit": ("", "ends the chat", _quit),
            "/reset": ("", "forgets the conversation", self._reset),
            "/save": ("FILE", "writes the conversation, as JSON if FILE ends in .json", self._save),
            "/system": ("TEXT", "starts anew with this system message; without TEXT: with none", self._system),
            "/stats": ("", "shows times and counts of the last answer, and how full the context is", self._stats),
        }

    def run(self) -> int:
        """Until /quit or Ctrl-D. Ctrl-C ends an answer; at the prompt it ends the command."""
        print("Ask something. /help lists the commands, Ctrl-C stops an answer, Ctrl-D ends the chat.", file=sys.stderr)
        with _ctrl_c_as_exception(), contextlib.suppress(EOFError):  # of /quit
            for text in questions():
                self._take(text)
        return 0

    def _take(self, text: str) -> None:
        try:
            if is_command(text):
                self._command(text)
            else:
                self._reply(text.strip())
        except (ValueError, OSError) as error:
            print(f"shadowattn: error: {describe_error(error, 'generate')}", file=sys.stderr)

    # --- questions ---

    def _reply(self, text: str) -> None:
        from shadowattn.runtime.text.answer import PromptTooLongError

        token_ids = self._conversation.ask(text)
        try:
            answer, facts = self._speaker.answer(token_ids, on_interrupt="keep")
        except PromptTooLongError as error:
            self._conversation.take_back()
            raise ValueError(self._advice(error, text)) from None
        except BaseException:
            self._conversation.take_back()
            raise
        if answer.token_ids:
            self._conversation.answer(answer.text)
        else:  # Ctrl-C before the first token
            self._conversation.take_back()
        self._latest = facts
        print()
        self._say_about(answer, facts)

    def _say_about(self, answer: "Answer", facts: Facts) -> None:
        session = self._speaker.session
        if self._show_statistics:
            print_statistics(facts)
        print_notes(answer, facts, session.max_length)
        if session.length >= _NEARLY_FULL * session.max_length:
            print(f"{self._meter()}; /reset makes room", file=sys.stderr)

    def _advice(self, error: "PromptTooLongError", text: str) -> str:
        """What would help: the conversation before it, or the question itself, may be what is too long."""
        session, alone = self._speaker.session, self._conversation.tokens_alone(text)
        said = f"with this question the conversation has {error.prompt_tokens:,} tokens, but the session holds "
        said += f"{error.max_length:,}; "
        if alone <= error.max_length:
            return f"{said}/reset makes room (the question alone has {alone:,}), then press Up to ask it again"
        longer = (
            "start with a larger --max_length"
            if session.max_length < session.manifest.max_length
            else "convert the model with a larger --max_length"
        )
        return (
            f"{said}the question alone has {alone:,}: press Up and shorten it by {alone - error.max_length:,} tokens, "
            f"or {longer}"
        )

    # --- commands ---

    def _command(self, text: str) -> None:
        """Raises ValueError for an unknown one: a slip of the finger is no question."""
        word, _, rest = text.partition(" ")
        if word not in self._commands:
            near = difflib.get_close_matches(word, self._commands, n=1)
            hint = f", did you mean {near[0]}?" if near else ";"
            raise ValueError(f"there is no command {word}{hint} /help lists them (put a space first to ask it)")
        argument, _does, act = self._commands[word]
        if rest.strip() and not argument:
            raise ValueError(f"{word} takes nothing behind it, got {rest.strip()!r}")
        act(rest.strip())

    def _help(self, _: str) -> None:
        names = {word: f"{word} {argument}".strip() for word, (argument, _, _) in self._commands.items()}
        width = max(map(len, names.values()))
        for word, usage in names.items():
            print(f"  {usage:<{width}}  {self._commands[word][1]}", file=sys.stderr)
        print("A paste of many lines is one question. Up brings back earlier questions.", file=sys.stderr)

    def _reset(self, _: str) -> None:
        self._conversation.clear()
        self._speaker.session.reset()
        print("The conversation is forgotten.", file=sys.stderr)

    def _system(self, text: str) -> None:
        self._conversation.start_with(text or None)
        self._speaker.session.reset()
        print(f"The conversation starts anew, with {'this' if text else 'no'} system message.", file=sys.stderr)

    def _save(self, name: str) -> None:
        """Raises ValueError, OSError. Never writes over a file."""
        if not name:
            raise ValueError("/save wants the name of a file, as in /save chat.json")
        messages = self._conversation.messages
        if not messages:
            raise ValueError("there is nothing to save yet; ask something first")
        path = Path(name).expanduser()
        whole = "".join(f"[{message['role']}]\n{message['content']}\n\n" for message in messages)
        if path.suffix == ".json":
            whole = json.dumps(messages, ensure_ascii=False, indent=1) + "\n"
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(whole)
        except FileExistsError:
            raise ValueError(f"{path}: is there already; save under another name") from None
        print(f"shadowattn: wrote {path}", file=sys.stderr)

    def _stats(self, _: str) -> None:
        if self._latest is None:
            print("No answer yet.", file=sys.stderr)
        else:
            print_statistics(self._latest)
        print(self._meter(), file=sys.stderr)

    def _meter(self) -> str:
        session = self._speaker.session
        percent = 100 * session.length // session.max_length
        return f"[context {percent} % full: {session.length:,} of {session.max_length:,} tokens]"


@contextlib.contextmanager
def _ctrl_c_as_exception() -> Iterator[None]:
    """Also where we were started with SIGINT ignored, as a script's background jobs are: a chat ends at Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _quit(_: str) -> None:
    raise EOFError
