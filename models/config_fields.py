"""Fields of a config.json, each with the type that transformers wants of it. Raises ValueError that names the key."""

import sys
from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]


def count(config: Config, key: str, default: int | None = None) -> int:
    """A positive integer. default: what an absent key or null means; None: it has to be there."""
    value = config.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{key} must be a positive integer, got {value!r:.60}; get the model's config again")
    return value


def number(config: Config, key: str, default: float) -> float:
    """A finite number. default: what an absent key means; null is an error."""
    value = config.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > sys.float_info.max:
        raise ValueError(f"{key} must be a finite number, got {value!r:.60}; get the model's config again")
    return float(value)


def switch(config: Config, key: str, default: bool = False) -> bool:
    """true or false. default: what an absent key or null means."""
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ValueError(f"{key} must be true or false, got {value!r:.60}; get the model's config again")
    return value
