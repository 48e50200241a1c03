"""Who runs the estimate graphs: the host, a vendor's delegate, or graphs compiled ahead of time (docs/npu.md)."""
