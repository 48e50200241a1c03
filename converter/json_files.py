"""JSON files of a model's folder."""

import json
from pathlib import Path
from typing import Any


def read_json(folder: Path, name: str, optional: bool = False) -> dict[str, Any]:
    """The object in a file; {} where an optional one is missing. Raises ValueError that names the file."""
    path = folder / name
    if not path.is_file():
        if optional:
            return {}
        raise ValueError(f"{folder}: {name} is missing; wanted a Hugging Face model directory with {name}")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error!s:.200}); get the file again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(content).__name__}; get the file again")
    return content
