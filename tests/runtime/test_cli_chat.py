"""The interactive chat on a pseudo-terminal: pastes, history, commands, Ctrl-C, and what it says of a short context."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli_runner import write_speaking_bundle
from terminal_run import PASTE, TerminalRun

from shadowattn.runtime.commands.chat_input import History, history_path

READY = r"Ask something[^\n]*\r?\n[\s\S]*> ?$"
NEXT = r"\n[\s\S]*\n> ?$|\n\r> ?$"
UP = "\x1b[A"
ENTER = "\r"
# name -> modules that are not there
READERS = {"prompt_toolkit": (), "readline": ("prompt_toolkit",), "plain": ("prompt_toolkit", "readline")}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaking_bundle(tmp_path_factory.mktemp("chat") / "tiny.bundle")


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Chat(TerminalRun):
    """A chat with one of the readers, at its first prompt. patch: Python code that runs before it."""

    def __init__(self, bundle: Path, reader: str, folder: Path, *flags: str, patch: str = "") -> None:
        missing = [f"sys.modules[{name!r}] = None" for name in READERS[reader]]
        lines = ["import sys", *missing, "from shadowattn.runtime import cli", patch, "sys.exit(cli.main())"]
        state = folder / "state"
        super().__init__(
            bundle, "--max_new_tokens=3", *flags, state=state, environ={"TERM": "xterm"}, code="\n".join(lines)
        )
        self._folder = folder
        self.read_until(READY)

    def ask(self, text: str) -> str:
        """Types it, and waits until the answer is over: the next prompt is there."""
        self.type(text + ENTER)
        return self.read_until(NEXT)

    def messages(self, name: str = "chat.json") -> list[dict[str, Any]]:
        """The conversation, through /save."""
        path = self._folder / name
        self.type(f"/save {path}{ENTER}")
        self.read_until(r"wrote [\s\S]*> ?$")
        found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
        return found

    def quit(self) -> None:
        self.type("/quit" + ENTER)
        assert self.end() == 0


def test_a_paste_of_30_lines_is_one_message(bundle: Path, reader: str, tmp_path: Path) -> None:
    chat = Chat(bundle, reader, tmp_path)
    text = "\n".join(f"l{i}" for i in range(30))
    chat.ask(PASTE.format(text))
    messages = chat.messages()
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert messages[0]["content"] == text
    chat.quit()


@pytest.mark.parametrize("editor", ["prompt_toolkit", "readline"])  # a terminal's own line editing has no history
def test_history_goes_over_runs_and_pastes_stay_whole_in_it(bundle: Path, editor: str, tmp_path: Path) -> None:
    first = Chat(bundle, editor, tmp_path)
    first.ask(PASTE.format("one\ntwo"))
    first.quit()
    second = Chat(bundle, editor, tmp_path)
    second.ask(UP)
    assert second.messages()[0]["content"] == "one\ntwo"
    second.quit()


def test_ctrl_c_in_an_answer(bundle: Path, reader: str, tmp_path: Path) -> None:
    patch = """
import signal
from shadowattn.runtime.session.cached_tokens import CachedTokens
real, calls = CachedTokens.step, iter(range(10**6))
def step(cached, chunk, *more):
    if chunk.length == 1 and next(calls) == 2:
        print("MIDDLE", file=sys.stderr, flush=True)
        while True:
            signal.pause()
    return real(cached, chunk, *more)
CachedTokens.step = step
"""
    chat = Chat(bundle, reader, tmp_path, "--max_new_tokens=9", "--temperature=3", "--seed=1", "--stats", patch=patch)
    chat.type("Hello" + ENTER)
    chat.read_until("MIDDLE")
    chat.type("\x03")
    assert ", 3 new tokens, " in chat.read_until(NEXT)
    assert ", 9 new tokens, " in chat.ask("And now?")
    chat.quit()


def test_commands(bundle: Path, reader: str, tmp_path: Path) -> None:
    chat = Chat(bundle, reader, tmp_path)
    for command, answer in (
        ("/help", "/save FILE"),
        ("/stats", "No answer yet"),
        ("/rest", "there is no command /rest, did you mean /reset? /help lists them"),
        ("/xyzzy", "there is no command /xyzzy; /help lists them"),
        ("/reset now", "/reset takes nothing behind it, got 'now'"),
        ("/save", "/save wants the name of a file"),
        (f"/save {tmp_path}/x.json", "there is nothing to save yet"),
        ("/system Be brief.", "starts anew, with this system message"),
    ):
        chat.type(command + ENTER)
        assert answer in chat.read_until(r"\n[\s\S]*> ?$")
    said = chat.ask("Hi")
    assert "prompt tokens" not in said  # statistics only when they are asked for
    assert "the answer was cut after 3 tokens; --max_new_tokens=6 lets it go on" in said
    assert [message["role"] for message in chat.messages()] == ["system", "user", "assistant"]
    chat.type(f"/save {tmp_path}/chat.json{ENTER}")
    assert "is there already; save under another name" in chat.read_until(r"error: [\s\S]*> ?$")
    chat.type("/stats" + ENTER)
    assert "3 new tokens" in chat.read_until(r"% full: [\s\S]*> ?$")
    chat.ask(" /etc is a folder")  # a space makes a question of it
    assert chat.messages("again.json")[-2] == {"role": "user", "content": "/etc is a folder"}
    chat.quit()


def test_a_question_that_is_too_long(bundle: Path, tmp_path: Path) -> None:
    chat = Chat(bundle, "readline", tmp_path)
    said = chat.ask("x" * 300)
    assert "press Up and shorten it by 63 tokens, or convert the model with a larger --max_length" in said
    chat.ask("y" * 120)
    long = "z" * 130
    said = chat.ask(long)
    assert "/reset makes room (the question alone has 149), then press Up to ask it again" in said
    chat.type("/reset" + ENTER)
    chat.read_until(r"is forgotten[\s\S]*> ?$")
    chat.ask(UP)
    assert [message["content"] for message in chat.messages() if message["role"] == "user"] == [long]
    chat.quit()


def test_the_meter_shows_when_the_context_is_nearly_full(bundle: Path, tmp_path: Path) -> None:
    chat = Chat(bundle, "readline", tmp_path)
    assert "% full" not in chat.ask("x")
    assert "% full: " in chat.ask("x" * 170)
    chat.quit()


def test_bad_histories(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "history"
    path.write_text('"good"\n{broken\n7\n"two\\nlines"\n', "utf-8")
    assert History(path).entries == ["good", "two\nlines"]
    History(path).add("new")
    History(path).add("new")  # the latest one again
    assert History(path).entries == ["good", "two\nlines", "new"]
    path.unlink()
    path.mkdir()
    history = History(path)
    history.add("kept for this chat")
    assert history.entries == ["kept for this chat"]
    assert capsys.readouterr().err == f"shadowattn: no history: {path}: Is a directory\n"


def test_only_the_user_can_read_the_history(tmp_path: Path) -> None:
    History(tmp_path / "a" / "history").add("secret")
    assert (tmp_path / "a" / "history").stat().st_mode & 0o777 == 0o600


def test_where_the_history_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history_path() == tmp_path / "shadowattn" / "history"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # which the specification says to ignore
    monkeypatch.setenv("HOME", "/home/x")
    assert history_path() == Path("/home/x/.local/state/shadowattn/history")


def test_a_second_turn_reuses_the_first(bundle: Path, tmp_path: Path) -> None:
    chat = Chat(bundle, "readline", tmp_path, "--system=S", "--stats")
    first = re.search(r"\[(\d+) prompt tokens", chat.ask("Hi"))
    second = re.search(r"\[\d+ prompt tokens \((\d+) reused\)", chat.ask("Why?"))
    assert first
    assert second
    assert int(second[1]) >= int(first[1])
    chat.quit()


@pytest.mark.parametrize(("key", "code"), [("\x04", 0), ("\x03", 130)], ids=("ctrl_d", "ctrl_c"))
def test_keys_that_end_the_chat_at_the_prompt(bundle: Path, reader: str, tmp_path: Path, key: str, code: int) -> None:
    chat = Chat(bundle, reader, tmp_path)
    for _ in range(20):  # CPython's input() sleeps over a signal that comes just before it waits
        chat.type(key)
        if chat.has_ended(1):
            break
    assert chat.end() == code


def test_bytes_that_are_no_text(bundle: Path, reader: str, tmp_path: Path) -> None:
    chat = Chat(bundle, reader, tmp_path)
    chat.type(b"\xff\xfe bad" + ENTER.encode())
    chat.read_until(r"error: this line is not UTF-8 text; check the terminal's encoding[\s\S]*> ?$")
    chat.ask("Hi")
    assert chat.messages()[0]["content"] == "Hi"
    chat.quit()
