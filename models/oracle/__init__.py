"""The slow oracle in NumPy: every step and mode of docs/algorithm.md, written to be read and compared with."""
