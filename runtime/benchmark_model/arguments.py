"""The strings of benchmark_model's flags, read as the stock tool reads them but for what it drops silently."""

import dataclasses
import re
from pathlib import Path

_LARGEST = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class InputLayer:
    """What the flags say of one input. span: lowest and highest value, both included; file goes before it."""

    name: str
    shape: tuple[int, ...]
    span: tuple[int, int] | None = None
    file: Path | None = None


def parse_delegate_options(text: str) -> dict[str, str]:
    """`key:value;key:value`. Raises ValueError for an item that the stock tool would drop: not exactly one colon."""
    options: dict[str, str] = {}
    for item in filter(None, text.split(";")):
        key, *values = item.split(":")
        if not key or len(values) != 1 or not values[0]:
            raise ValueError(
                f"--external_delegate_options: wanted key:value;key:value with one colon each, got {item!r}; the stock "
                "tool drops such an item silently, so rename a path that holds a colon"
            )
        if key in options:
            raise ValueError(f"--external_delegate_options: {key!r} is there twice; keep one")
        options[key] = values[0]
    return options


def format_delegate_options(options: dict[str, str]) -> str:
    """The flag's value that stands for the options."""
    return ";".join(f"{key}:{value}" for key, value in options.items())


def parse_input_layers(names: str, shapes: str, spans: str, files: str) -> list[InputLayer]:
    """The four input flags: `a,b`, `1,256:1`, `a,0,9:b,1,1` and `a:path,b:path`. Raises ValueError."""
    listed, sizes = _split(names, ","), _split(shapes, ":")
    if len(listed) != len(sizes):
        raise ValueError(
            f"wanted as many shapes in --input_layer_shape as names in --input_layer, got {len(sizes)} and "
            f"{len(listed)}; write for example --input_layer=tokens,position --input_layer_shape=1,256:1"
        )
    if len(set(listed)) != len(listed) or "" in listed:
        raise ValueError(f"--input_layer: wanted different names, got {names!r}")
    layers = {name: InputLayer(name, _shape(name, size)) for name, size in zip(listed, sizes, strict=True)}
    for item in _split(spans, ":"):
        name, span = _span(item)
        layers[name] = dataclasses.replace(_known(layers, name, "input_layer_value_range"), span=span)
    for item in _split(files, ","):
        name, file = _file(item)
        layers[name] = dataclasses.replace(_known(layers, name, "input_layer_value_files"), file=file)
    return list(layers.values())


def _split(text: str, delimiter: str) -> list[str]:
    return text.split(delimiter) if text else []


def _known(layers: dict[str, InputLayer], name: str, flag: str) -> InputLayer:
    if name not in layers:
        raise ValueError(
            f"--{flag}: {name!r} is not in --input_layer, which has {', '.join(layers) or 'no names'}; name every "
            "input of the graph there, with its shape in --input_layer_shape"
        )
    return layers[name]


def _shape(name: str, text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(re.fullmatch(r"[0-9]{1,10}", word) and 0 < int(word) <= _LARGEST for word in words):
        raise ValueError(f"--input_layer_shape: wanted sizes above 0 for {name}, like 1,256, got {text!r}")
    return tuple(map(int, words))


def _span(item: str) -> tuple[str, tuple[int, int]]:
    words = item.split(",")
    if len(words) != 3 or not all(re.fullmatch(r"-?[0-9]{1,19}", word) for word in words[1:]):
        raise ValueError(f"--input_layer_value_range: wanted name,low,high with whole numbers, got {item!r}")
    low, high = int(words[1]), int(words[2])
    if low > high:
        raise ValueError(f"--input_layer_value_range: wanted low <= high, got {item!r}")
    return words[0], (low, high)


def _file(item: str) -> tuple[str, Path]:
    """A colon within the name or the path is written twice."""
    parts = [""]
    for piece in re.findall(r"::|:|[^:]+", item):
        if piece == ":":
            parts.append("")
        else:
            parts[-1] += piece.replace("::", ":")
    if len(parts) != 2 or not all(parts):
        raise ValueError(f"--input_layer_value_files: wanted name:path (a colon inside as ::), got {item!r}")
    return parts[0], Path(parts[1])
