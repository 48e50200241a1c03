"""From finished runs to the rows of a result."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from peers.journal import ANSWERS, Cell, Journal
from peers.systems import REFERENCE, System

Row = dict[str, Any]


def reference_of(installed: Sequence[System]) -> str | None:
    """Whose first token the others' are compared with: torch's, else that of the first system."""
    known = [system.name for system in installed]
    return REFERENCE if REFERENCE in known else next(iter(known), None)


def find_rows(
    systems: Sequence[System], installed: Sequence[System], rounds: Mapping[int, int], journal: Journal
) -> dict[str, list[Row]]:
    """rounds: of each length. `systems`: what each is, and whether it is here; `rows`: every length's rows, in the
    order of the systems."""
    found = []
    right = reference_of(installed)
    for length, most in rounds.items():
        cells = {system.name: _runs(system.name, length, most, journal) for system in installed}
        wanted = cells[right][0].get("first_token") if right is not None else None
        rows = [_row(name, length, answer, runs) for name, (answer, *runs) in cells.items() if answer and any(runs)]
        for row in rows:
            row["x_first"] = row["ttft_s"] / rows[0]["ttft_s"]
            known = wanted is not None and row["first_token"] is not None
            row["same_first_token"] = row["first_token"] == wanted if known else None
        found += rows
    return {
        "systems": [_describe(system, system in installed, list(rounds), journal) for system in systems],
        "rows": found,
    }


def _runs(system: str, length: int, rounds: int, journal: Journal) -> list[Row]:
    """Of round 0, 1, ...; empty without rounds."""
    return [journal.find(Cell(number, length, system)) or {} for number in range(ANSWERS, rounds + 1)]


def _row(system: str, length: int, answer: Row, runs: Sequence[Row]) -> Row:
    """Medians of the rounds that there are."""
    runs = [run for run in runs if run]
    row: Row = {"system": system, "prompt_tokens": length, "first_token": answer["first_token"], "runs": len(runs)}
    for name in ("ttft_s", "decode_tok_s", "load_s"):
        row[name] = statistics.median(run[name] for run in runs)
        row[f"{name}_runs"] = [run[name] for run in runs]
    row["peak_rss_bytes"] = max(run["peak_rss_bytes"] for run in runs)
    for name in ("mean_keep_ratio", "cache_bytes"):
        row[name] = runs[-1]["facts"].get(name)
    return row


def _describe(system: System, installed: bool, lengths: Sequence[int], journal: Journal) -> Row:
    """For the table of systems. facts: as the last answer's process had them."""
    answers = [found for length in lengths if (found := journal.find(Cell(ANSWERS, length, system.name)))]
    facts = answers[-1]["facts"] if answers else {}
    return {
        "name": system.name,
        "title": system.title,
        "weights": system.weights,
        "installed": installed,
        "version": facts.get("version"),
        "isa": facts.get("isa"),
        "limits": answers[-1]["limits"] if answers else None,
    }
