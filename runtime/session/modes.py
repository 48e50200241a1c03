"""The names of the modes (docs/algorithm.md), on their own: what a flag may be is known without loading numpy."""

MODES = ("shadow", "dense", "int8", "shadow_paper", "float_estimate", "block_sparse", "npu_full")
AUTO = "auto"  # keep_ratio: the plan's threshold
