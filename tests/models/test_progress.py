"""The progress line: nothing for quick work, rewritten on a terminal, sparse lines elsewhere."""

import io

import pytest

from shadowattn.models.progress import Progress, waiting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("shadowattn.models.progress.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_quick_work_shows_nothing(clock: Clock, stream: io.StringIO) -> None:
    with Progress("prefill", "tokens", stream) as line:
        for done in range(10):
            clock.now += 0.09
            line.update(done, 10)
    assert stream.getvalue() == ""


def test_a_terminal_line_is_rewritten_and_wiped(clock: Clock) -> None:
    stream = Terminal()
    with Progress("prefill", "tokens", stream) as line:
        clock.now += 2
        line.update(1024, 4096)
        clock.now += 0.05
        line.update(1100, 4096)  # too soon
        clock.now += 2
        line.update(4096, 4096)
    text = "prefill: 1,024 of 4,096 tokens (25 %), 2 s, about 6 s left"
    assert stream.getvalue().startswith(f"\r{text}\rprefill: 4,096 of 4,096 tokens (100 %), 4 s")
    assert stream.getvalue().endswith(" s" + " " * 15 + "\r" + " " * 43 + "\r")
    assert "1,100" not in stream.getvalue()


def test_elsewhere_a_line_now_and_then(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress("bench", "runs", stream) as line:
        for done in range(60):
            clock.now += 1
            line.update(done, 60, note="dense")
    lines = stream.getvalue().splitlines()
    assert 11 <= len(lines) <= 13
    assert all(line.startswith("bench: ") and line.endswith("; dense") and "\r" not in line for line in lines)


def test_waiting() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        with waiting("opening x", stream):
            pass
    assert terminal.getvalue() == "opening x ...\r" + " " * 13 + "\r"
    assert file.getvalue() == ""
