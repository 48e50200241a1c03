"""One colour for a mode in every picture; benchmarks/colors.py adds those of settings and of other libraries."""

MODE_COLORS = {
    "shadow": "#1f4fb4",
    "shadow_paper": "#7f5f2f",
    "shadow:": "#b0b8c8",  # without a part of it, as shadow:uncompensated
    "int8": "#2a9d6f",
    "dense": "#222222",
    "float_estimate": "#c49c94",
    "block_sparse": "#e377c2",
    "npu_full": "#bcbd22",
}


def mode_color(mode: str) -> str:
    """The colour of the longest name that `mode` begins with. Raises ValueError for a mode that nobody knows."""
    known = [name for name in MODE_COLORS if mode.startswith(name)]
    if not known:
        raise ValueError(f"colors: wanted a mode that begins with one of {', '.join(MODE_COLORS)}, got {mode!r}")
    return MODE_COLORS[max(known, key=len)]
