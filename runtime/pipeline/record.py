"""What the pipelined executor did: per chunk, and in all."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from shadowattn.models.spec import ModelSpec

_LATEST = 256
Found = tuple[np.ndarray, int, int]  # in a layer's chunk: buckets int32 [H], clamped elements, heads outside the grid


@dataclasses.dataclass(frozen=True)
class ChunkRecord:
    """One chunk's attention, all layers together, in seconds.

    predicted: by the schedules (None: planned without a profile); measured: from a layer's first launch to its last
    attended group; estimate, attend: the two workers' sums, which overlap. launches: how many.
    """

    chunk: int
    seq_len: int
    kv_len: int
    launches: int
    predicted: float | None
    measured: float
    estimate: float
    attend: float

    @property
    def bound(self) -> float:
        """(sum of all stages) / (the busier worker's): what overlap can gain at most."""
        return (self.estimate + self.attend) / max(self.estimate, self.attend)

    @property
    def gained(self) -> float:
        """The stages one after the other / as they ran."""
        return (self.estimate + self.attend) / self.measured


class PipelineRecord:
    """Of finished chunks. chunks: the latest; buckets [L,H,B]: how often a head took a scale bucket; clamped: elements
    of q and k; outside: query and KV heads whose scales lay outside the grid."""

    def __init__(self, model: ModelSpec, num_buckets: int) -> None:
        self.chunks: collections.deque[ChunkRecord] = collections.deque(maxlen=_LATEST)
        self.buckets = np.zeros((model.num_layers, model.num_heads, num_buckets), np.int64)
        self.clear()

    def add(self, chunk: ChunkRecord, found: Sequence[Found]) -> None:
        """A finished chunk, and what append found layer by layer."""
        self.chunks.append(chunk)
        self._launches += chunk.launches
        self._seconds += (chunk.estimate + chunk.attend, chunk.measured, max(chunk.estimate, chunk.attend))
        for layer, (buckets, clamped, outside) in enumerate(found):
            self.buckets[layer, np.arange(len(buckets)), buckets] += 1
            self.clamped += clamped
            self.outside += outside

    def totals(self) -> dict[str, Any]:
        """Of all chunks so far: launches; gain of overlap and its bound, None without a launch; clamped; outside."""
        sequential, measured, busier = self._seconds.tolist()
        return {
            "launches": self._launches,
            "gain": sequential / measured if measured else None,
            "bound": sequential / busier if busier else None,
            "clamped": self.clamped,
            "outside": self.outside,
        }

    def clear(self) -> None:
        self.chunks.clear()
        self.buckets[:] = 0
        self.clamped = self.outside = self._launches = 0
        self._seconds = np.zeros(3)  # of all stages, as they ran, of the busier worker
