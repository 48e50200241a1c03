"""`shadowattn generate` on a pseudo-terminal, for tests that type."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from cli_runner import environment

PASTE = "\x1b[200~{}\x1b[201~"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x08")


class TerminalRun:
    """state: where the history goes. environ: what else the process finds. code: Python that runs it instead."""

    def __init__(
        self, *args: object, state: Path, environ: Mapping[str, str] | None = None, code: str | None = None
    ) -> None:
        self._fd, child = pty.openpty()
        # The leader of a new session gets the terminal that it opens first, and with it the terminal's Ctrl-C.
        # SIGINT starts as a script's background jobs have it.
        shell = ["sh", "-c", 'trap "" INT; exec "$@" <"$0" >"$0" 2>&1', os.ttyname(child)]
        program = ["-m", "shadowattn.runtime.cli"] if code is None else ["-c", code]
        command = [*shell, sys.executable, *program, "generate", *map(str, args)]
        own = {"TERM": "dumb", "XDG_STATE_HOME": str(state), "PROMPT_TOOLKIT_NO_CPR": "1", **(environ or {})}
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, env={**environment(), **own}, start_new_session=True
        )
        self._child = child  # kept open, or reading fails until the process has opened its end

    def type(self, text: str | bytes) -> None:
        os.write(self._fd, text.encode() if isinstance(text, str) else text)

    def read_until(self, pattern: str, seconds: float = 60) -> str:
        """What appears up to the pattern (a regular expression), without escape sequences. Fails after a while."""
        seen, end = "", time.monotonic() + seconds
        while not re.search(pattern, _ESCAPES.sub("", seen)):
            assert time.monotonic() < end, f"waited for {pattern!r}, saw {seen!r}"
            if select.select([self._fd], [], [], 0.2)[0]:
                seen += os.read(self._fd, 65536).decode(errors="replace")
        return _ESCAPES.sub("", seen)

    def has_ended(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> int:
        code = self.process.wait(60)
        os.close(self._fd)
        os.close(self._child)
        return code
