"""How a chunk runs: one graph (fused), or head groups over two workers (pipelined)."""
