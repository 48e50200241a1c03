"""One colour for a mode or a library, in every picture."""

from shadowattn.runtime.evaluate.colors import MODE_COLORS

# By how labels begin: modes as tables name them (the default is `shadow auto`), then libraries.
_COLORS = {
    **MODE_COLORS,
    "shadow auto": MODE_COLORS["shadow"],
    "default": MODE_COLORS["shadow"],
    "shadow 0.1": "#9a7bd0",
    "shadow 0.05": "#4fa3e0",
    "shadow 0.02": "#17becf",
    "torch": "#d62728",
    "OpenVINO GenAI, XAttention": "#ffb000",
    "OpenVINO": "#e06c00",
    "LiteRT-LM": "#8a2be2",
    "llama.cpp": "#7f7f7f",
    "ONNX Runtime": "#8c564b",
}
_OURS = ("ours, ", "shadowattn, ")


def color_of(label: str) -> str:
    """The colour of what the label begins with, the longest match. Raises ValueError for a label that nobody knows."""
    name = label
    for own in _OURS:
        name = name.removeprefix(own)
    known = [start for start in _COLORS if name.startswith(start)]
    if not known:
        raise ValueError(f"colors.py: wanted a label that begins with one of {', '.join(_COLORS)}, got {label!r}")
    return _COLORS[max(known, key=len)]
