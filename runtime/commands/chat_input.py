"""Questions from a terminal, with history and pastes of many lines: prompt_toolkit, or readline without it."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_PROMPT = "> "
_MOST_ENTRIES = 1000
_PASTE_BEGINS, _PASTE_ENDS = "\x1b[200~", "\x1b[201~"
_PASTE_ON, _PASTE_OFF = "\x1b[?2004h", "\x1b[?2004l"

ReadLine = Callable[[], str]  # raises EOFError at Ctrl-D, KeyboardInterrupt at Ctrl-C


class History:
    """Questions of earlier chats in a file, one JSON string a line, so that questions of many lines stay whole.

    A file that cannot be read or written costs the history, not the chat: a sentence says so, once.
    """

    def __init__(self, path: Path | None) -> None:
        """path None: this chat only."""
        self._path = path
        self._warned = False
        self.entries: list[str] = []
        if path is None:
            return
        with self._forgiving():
            lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
            self.entries = [text for text in map(_entry, lines) if text][-_MOST_ENTRIES:]
            if len(lines) > 2 * _MOST_ENTRIES:
                path.write_text("".join(f"{json.dumps(text)}\n" for text in self.entries), "utf-8")

    def add(self, text: str) -> None:
        """Appends a question, unless it is the latest one again."""
        if self.entries and self.entries[-1] == text:
            return
        self.entries.append(text)
        if self._path is None:
            return
        with self._forgiving():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with open(descriptor, "a", encoding="utf-8") as file:
                file.write(f"{json.dumps(text)}\n")

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._warned:
                print(f"shadowattn: no history: {self._path}: {error.strerror}", file=sys.stderr)
            self._warned = True


def history_path() -> Path | None:
    """Where the XDG base directory specification has the state of programs; None for a user without a home."""
    state = os.environ.get("XDG_STATE_HOME", "")
    folder = state if os.path.isabs(state) else os.path.expanduser("~/.local/state")
    return Path(folder) / "shadowattn" / "history" if os.path.isabs(folder) else None


def questions() -> Iterator[str]:
    """What is typed or pasted at the prompt, until Ctrl-D; without empty ones. Ctrl-C raises KeyboardInterrupt. A space
    in front stays: it makes a question of what would be a command."""
    history = History(history_path())
    with _reader(history) as read:
        while True:
            try:
                text = read().rstrip()
                text.encode()
            except EOFError:
                print()
                return
            except UnicodeError:
                print("shadowattn: error: this line is not UTF-8 text; check the terminal's encoding", file=sys.stderr)
                continue
            if text and not is_command(text):
                history.add(text)
            if text:
                yield text


def is_command(text: str) -> bool:
    """A paste of many lines is a question, whatever it begins with."""
    return text.startswith("/") and "\n" not in text


@contextlib.contextmanager
def _reader(history: History) -> Iterator[ReadLine]:
    """prompt_toolkit needs a terminal that can move its cursor."""
    if os.environ.get("TERM", "dumb") != "dumb":
        with contextlib.suppress(ImportError):
            yield _prompt_toolkit_reader(history)
            return
    with _plain_reader(history) as read:
        yield read


def _prompt_toolkit_reader(history: History) -> ReadLine:
    """Raises ImportError without the extra `chat`."""
    import prompt_toolkit
    from prompt_toolkit.history import InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
    from prompt_toolkit.output import create_output

    class Questions(InMemoryHistory):
        def append_string(self, string: str) -> None:
            if not is_command(string):
                super().append_string(string)

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    session: Any = prompt_toolkit.PromptSession(
        _PROMPT,
        history=Questions(history.entries),
        key_bindings=keys,
        output=create_output(always_prefer_tty=True),
    )
    return lambda: str(session.prompt())


@contextlib.contextmanager
def _plain_reader(history: History) -> Iterator[ReadLine]:
    """input(): GNU readline takes a paste as one line by itself; without it the terminal's marks around a paste do."""
    try:
        import readline
    except ImportError:
        marks = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        try:
            print(_PASTE_ON if marks else "", end="", flush=True)
            yield _line_or_paste
        finally:
            print(_PASTE_OFF if marks else "", end="", flush=True)
        return
    readline.parse_and_bind("set enable-bracketed-paste on")
    readline.set_auto_history(False)
    readline.clear_history()
    for entry in history.entries:
        readline.add_history(entry)

    def read() -> str:
        text = input(_PROMPT)
        if text.strip() and not is_command(text):
            readline.add_history(text)
        return text

    yield read


def _line_or_paste() -> str:
    text = input(_PROMPT)
    while text.count(_PASTE_BEGINS) > text.count(_PASTE_ENDS):
        text += "\n" + input()
    return text.replace(_PASTE_BEGINS, "").replace(_PASTE_ENDS, "")


def _entry(line: str) -> str:
    """The text of a line of the file; "" if it is damaged."""
    with contextlib.suppress(ValueError):
        text = json.loads(line)
        return text if isinstance(text, str) else ""
    return ""
