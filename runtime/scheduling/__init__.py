"""Which head groups are launched, and in which order: pure planning of the NPU-CPU pipeline, no I/O but its profile."""
