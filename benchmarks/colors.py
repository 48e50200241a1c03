"""One colour for a mode or a library, in every picture."""

# By how labels begin: modes as tables name them (the default is `shadow auto`), then libraries.
_COLORS = {
    "shadow auto": "#1f4fb4",
    "default": "#1f4fb4",
    "shadow": "#6f9de8",
    "shadow 0.1": "#9a7bd0",
    "shadow 0.05": "#4fa3e0",
    "shadow 0.02": "#17becf",
    "shadow_paper": "#7f5f2f",
    "shadow:": "#b0b8c8",
    "int8": "#2a9d6f",
    "dense": "#222222",
    "float_estimate": "#c49c94",
    "block_sparse": "#e377c2",
    "npu_full": "#bcbd22",
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
