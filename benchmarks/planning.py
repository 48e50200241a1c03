"""What planning costs a layer of a prompt: 16 chunks of 256 rows, 30 layers, one after the other in one process.

PYTHONPATH=build/dev .venv/bin/python benchmarks/planning.py

CPU time of PlanCache.get_layer, best of five, by number of heads and by how often heads take the same scale bucket.
"""

import functools
import random
import time

from shadowattn.runtime.scheduling.grouping import forget
from shadowattn.runtime.scheduling.plan_cache import PlanCache
from shadowattn.runtime.scheduling.problem import Problem

CHUNKS, LAYERS = 16, 30
MODELS = ((9, 3, (1, 3, 6, 9)), (32, 4, (1, 4, 8, 16, 32)))  # heads, of a unit, of a launch: as a bundle has them
KINDS = {"one bucket": (1,), "mostly the middle one": (0, 1, 1, 1, 1, 1, 1, 2), "any of nine": (0, 1, 2)}


def buckets(rng: random.Random, heads: int, size: int, scales: tuple[int, ...]) -> tuple[int, ...]:
    """By head: a Q scale of its own, and its unit's K scale."""
    keys = [rng.choice(scales) for _ in range(heads // size)]
    return tuple(1 + 3 * rng.choice(scales) + keys[head // size] for head in range(heads))


def problem(heads: int, size: int, counts: tuple[int, ...], chunk: int, key: tuple[int, ...]) -> Problem:
    """Launches and attention that take longer from chunk to chunk. key: the buckets by head."""
    launch = {count: (1 + count / 2) * 3e-4 * (1 + chunk / 4) for count in counts}
    cpu = (1e-4 * (1 + chunk),) * heads
    return Problem(size, key, launch, cpu, cpu, 2, 1e-4)


def measure(heads: int, size: int, counts: tuple[int, ...], scales: tuple[int, ...]) -> tuple[PlanCache, float]:
    """The plans of a prompt, and milliseconds a layer."""
    rng = random.Random(1)
    taken = [[buckets(rng, heads, size, scales) for _ in range(LAYERS)] for _ in range(CHUNKS)]
    forget()
    plans = PlanCache()
    start = time.process_time()
    for chunk, layers in enumerate(taken):
        make = functools.partial(problem, heads, size, counts, chunk)
        for own in layers:
            plans.get_layer(chunk, own, size, make)
    return plans, 1e3 * (time.process_time() - start) / (CHUNKS * LAYERS)


def main() -> None:
    print("heads | buckets | plans made of 480 | CPU ms a layer")
    for heads, size, counts in MODELS:
        for kind, scales in KINDS.items():
            runs = [measure(heads, size, counts, scales) for _ in range(5)]
            print(f"{heads} | {kind} | {runs[0][0].misses} | {min(seconds for _, seconds in runs):.2f}")


if __name__ == "__main__":
    main()
