"""What planning costs a layer of a prompt: 16 chunks of 256 rows, 30 layers, one after the other in one process.

PYTHONPATH=build/dev .venv/bin/python benchmarks/pipeline_planning.py

CPU time of LayerPlanner.schedule(), best of five, by number of heads and by how often heads take the same scale bucket.
"""

import random
import time

import numpy as np

from shadowattn.models.estimate_graphs import keys_of_bundle
from shadowattn.models.spec import ModelSpec, RopeSpec
from shadowattn.runtime.pipeline.options import PipelineOptions
from shadowattn.runtime.pipeline.planner import LayerPlanner
from shadowattn.runtime.pipeline.profile import LatencyProfile, LaunchTime
from shadowattn.runtime.pipeline.schedule import groupings

CHUNK, CHUNKS, LAYERS = 256, 16, 30
MODELS = ((9, 3), (32, 8))  # heads, KV heads
KINDS = {"one bucket": (1,), "mostly the middle one": (0, 1, 1, 1, 1, 1, 1, 2), "any of nine": (0, 1, 2)}


def measure(heads: int, kv_heads: int, scales: tuple[int, ...]) -> tuple[int, float]:
    """The schedules made, and milliseconds a layer. A head has a Q scale of its own, and its KV head's K scale."""
    model = ModelSpec("llama", 97, 64, 64, LAYERS, heads, kv_heads, 64, 1e-5, RopeSpec(1e4), 8192, True)
    keys = keys_of_bundle(model, (CHUNK,), (4096,), 9)
    launch = [
        LaunchTime(4096, kv_len, few, (1 + few / 2) * 3e-4 * kv_len / 1024, few * 1e-4, few * kv_len / 1e7, 1e-4, 1e-4)
        for kv_len in (CHUNK, 4096)
        for few in sorted({key.heads for key in keys})
    ]
    profile = LatencyProfile("", "", "host INT8", "", "", 2, "shadow", CHUNK, 1e-3, tuple(launch))
    rng = random.Random(1)
    groupings.cache_clear()
    planner = LayerPlanner(model, keys, PipelineOptions(profile=profile), depth=2)
    taken = 0.0
    for chunk in range(CHUNKS):
        for _ in range(LAYERS):
            own = np.repeat([rng.choice(scales) for _ in range(kv_heads)], heads // kv_heads)
            buckets = (1 + 3 * np.array([rng.choice(scales) for _ in range(heads)]) + own).astype(np.int32)
            start = time.process_time()
            planner.schedule(CHUNK, 4096, CHUNK * (chunk + 1), buckets)
            taken += time.process_time() - start
    return planner.made, 1e3 * taken / (CHUNKS * LAYERS)


def main() -> None:
    print(f"heads | buckets | schedules made of {CHUNKS * LAYERS} | CPU ms a layer")
    for heads, kv_heads in MODELS:
        for kind, scales in KINDS.items():
            runs = [measure(heads, kv_heads, scales) for _ in range(5)]
            print(f"{heads} | {kind} | {runs[0][0]} | {min(seconds for _, seconds in runs):.2f}")


if __name__ == "__main__":
    main()
