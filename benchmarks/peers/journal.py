"""The finished measurements of a run as JSON lines, so that it may be stopped and started."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from interleaved import order_of_round

ANSWERS = 0  # the round that asks for first tokens and times nothing


@dataclasses.dataclass(frozen=True)
class Cell:
    """One system on one prompt in one round."""

    round: int
    length: int
    system: str

    def cost(self) -> float:
        """About proportional to the time it takes: tokens, which cost more the longer the prompt is."""
        return (400 + self.length) * (1 + self.length / 4000)


def plan(systems: Sequence[str], rounds: Mapping[int, int]) -> list[Cell]:
    """rounds: of each length. All answers, then round after round every length and every system once."""
    return [
        Cell(number, length, system)
        for number in range(ANSWERS, max(rounds.values()) + 1)
        for length in (length for length, most in rounds.items() if number <= most)
        for system in order_of_round(systems, number)
    ]


class Journal:
    """A file of lines, the first of them the conditions that all others were measured under."""

    def __init__(self, path: Path, conditions: Mapping[str, Any], force: bool) -> None:
        """force: what is there goes. Raises ValueError for a file of other conditions."""
        self._path = path
        self._done: dict[Cell, dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [] if force or not path.is_file() else path.read_text("utf-8").splitlines()
        if not lines:
            path.write_text(json.dumps({"conditions": conditions}) + "\n", "utf-8")
            return
        before = json.loads(lines[0])["conditions"]
        if changed := [name for name in {**before, **conditions} if before.get(name) != conditions.get(name)]:
            raise ValueError(
                f"{path}: wanted measurements of the same conditions, got another {', '.join(sorted(changed))}; give "
                "--force to begin anew, or another --out"
            )
        for number, line in enumerate(lines[1:], 2):
            self._read(line, f"{path}:{number}")

    def find(self, cell: Cell) -> dict[str, Any] | None:
        """What was measured; None where nothing was, or where it failed."""
        return self._done.get(cell)

    def add(self, cell: Cell, outcome: Mapping[str, Any]) -> None:
        """outcome: with a field `failed` if there is no result; it is kept for the reader, and tried again."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**dataclasses.asdict(cell), **outcome}) + "\n")
        if "failed" not in outcome:
            self._done[cell] = dict(outcome)

    def _read(self, line: str, where: str) -> None:
        try:
            found = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{where}: not a line of JSON ({error}); remove it, or give --force") from None
        if "failed" not in found:
            self._done[Cell(found["round"], found["length"], found["system"])] = found
