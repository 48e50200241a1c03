"""What commands print for programs."""

import json
import sys
from typing import Any


def print_json(value: Any, indent: int | None = 1) -> None:
    """One JSON text on standard output. Characters that the stream's encoding lacks are written as \\uXXXX, so that
    a program reads the same text whatever the terminal."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=indent)
    print(text)
