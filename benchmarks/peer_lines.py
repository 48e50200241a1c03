"""Reads what other systems' own scripts measured (../shared/peers): JSON lines, one per figure."""

import json
from pathlib import Path
from typing import Any

_KEYS = ("peer", "precision", "isa", "len", "threads", "ttft_s", "decode_tok_s", "peak_rss_mib")
_ISA_NAMES = {"avx512vnni": "avx512", "auto": "native"}  # ours -> theirs
UNKNOWN_MACHINE = "NOT STATED"


def read_peers(folder: Path, num_threads: int, isa: str) -> list[dict[str, Any]]:
    """End-to-end lines of every *.jsonl in the folder with these threads and that instruction set, by peer and length.

    `machine` of a line: its own field, or the text of FOLDER/machine.txt. Raises ValueError for a folder without lines,
    and for a line that is not JSON.
    """
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise ValueError(f"--peers={folder}: wanted a folder with *.jsonl files of ../shared/peers, found none")
    note = folder / "machine.txt"
    machine = " ".join(note.read_text("utf-8").split()) if note.is_file() else UNKNOWN_MACHINE
    found = []
    for file in files:
        for number, text in enumerate(file.read_text("utf-8").splitlines(), 1):
            line = _parse(text, f"{file}:{number}")
            if line is None or (line["threads"], line["isa"]) != (num_threads, _ISA_NAMES.get(isa, isa)):
                continue
            found.append({key: line[key] for key in _KEYS} | {"machine": line.get("machine", machine)})
    return sorted(found, key=lambda line: (line["peer"], line["precision"], line["len"]))


def _parse(text: str, where: str) -> dict[str, Any] | None:
    """None for an empty line, and for one of another kind (attention alone, perplexity, failures)."""
    if not text.strip():
        return None
    try:
        line = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where}: not a line of JSON ({error})") from None
    return line if isinstance(line, dict) and all(key in line for key in _KEYS) else None
