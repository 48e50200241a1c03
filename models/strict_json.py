"""JSON -> frozen dataclasses, strictly: a missing, unknown or wrongly typed field is an error that names it."""

import dataclasses
import functools
from typing import Any

# (dataclass, field) -> what annotations cannot tell at run time: (tuple, element), (dict, element) or a dataclass.
FieldTypes = dict[tuple[type, str], Any]


def build(kind: type, raw: Any, where: str, types: FieldTypes) -> Any:
    """raw, as json.loads gives it -> an instance of the dataclass `kind`. Raises ValueError that names the field; what
    to do next is for the caller to add."""
    if not isinstance(raw, dict):
        raise ValueError(f"{where}: expected an object, got {type(raw).__name__}")
    fields = _fields(kind)
    unknown = sorted(set(raw) - set(fields))
    if unknown:
        raise ValueError(f"{where}: unknown field {unknown[0]!r}")
    values = {}
    for name, field in fields.items():
        if name not in raw:
            if field.default is dataclasses.MISSING:
                raise ValueError(f"{where}: field {name!r} is missing")
            continue
        values[name] = _value(types.get((kind, name), field.type), raw[name], f"{where}: {name}", types)
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


@functools.cache
def _fields(kind: type) -> dict[str, dataclasses.Field[Any]]:
    """By name. Kept: Python holds on to 2,000 of the tuples that dataclasses makes of them at each call."""
    return {field.name: field for field in dataclasses.fields(kind)}


def _value(kind: Any, raw: Any, where: str, types: FieldTypes) -> Any:
    if isinstance(kind, tuple):  # (container, element)
        container, element = kind
        if container is tuple:
            _want(list, raw, where)
            return tuple(_value(element, item, f"{where}[{i}]", types) for i, item in enumerate(raw))
        _want(dict, raw, where)
        return {key: _value(element, item, f"{where}.{key}", types) for key, item in raw.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return build(kind, raw, where, types)
    if kind is Any:
        return raw
    options = getattr(kind, "__args__", (kind,))
    if raw is None and type(None) in options:
        return None
    plain = next(option for option in options if option is not type(None))
    if plain is float and isinstance(raw, int) and not isinstance(raw, bool):
        if abs(raw) > 1 << 64:
            raise ValueError(f"{where}: expected a float, got {raw.bit_length()} bits")
        return float(raw)
    _want(plain, raw, where)
    return raw


def _want(kind: type, raw: Any, where: str) -> None:
    if not isinstance(raw, kind) or (kind is int and isinstance(raw, bool)):
        raise ValueError(f"{where}: expected {kind.__name__}, got {raw!r:.60}")
