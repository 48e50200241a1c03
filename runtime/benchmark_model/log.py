"""The tool's log: `INFO: ..` and `WARN: ..` lines on standard output, and the warnings kept for its end."""


class Log:
    """Prints at once, so that the lines stay in order with those of LiteRT."""

    def __init__(self) -> None:
        self._warnings: list[str] = []

    def info(self, text: str) -> None:
        print(f"INFO: {text}", flush=True)

    def warn(self, text: str) -> None:
        self._warnings.append(text)
        print(f"WARN: {text}", flush=True)

    def repeat_warnings(self) -> None:
        """Below the result, where nobody overlooks them."""
        for text in self._warnings:
            print(f"WARN: {text}", flush=True)
