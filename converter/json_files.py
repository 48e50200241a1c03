"""The JSON files of a model's folder."""

import json
import os
from pathlib import Path
from typing import Any

from shadowattn.converter.model_files import check_file


def read_json(folder: Path, name: str, optional: bool = False) -> dict[str, Any]:
    """A JSON object; {} for a file that is optional and not there. Raises ValueError that names the file."""
    path = folder / name
    if not os.path.lexists(path):
        if optional:
            return {}
        raise ValueError(f"{folder}: {name} is missing; wanted a Hugging Face model directory with {name}")
    check_file(path)
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error!s:.200}); get the file again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(content).__name__}; get the file again")
    return content
