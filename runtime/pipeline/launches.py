"""The estimate of one head group: its integers into a graph's inputs, and its scores out of it without a copy."""

import time
from collections.abc import Sequence

import numpy as np

from shadowattn.models.estimate_graphs import EstimateKey
from shadowattn.models.spec import ModelSpec
from shadowattn.runtime.executor.stages import EstimateInputs, HeadScores
from shadowattn.runtime.npu.graphs import Estimator
from shadowattn.runtime.scheduling.problem import HeadGroup


class Launches:
    """The groups of one layer and chunk. `copied_bytes`: of q_i8 and k_i8, once for each launch that reads them."""

    def __init__(
        self, estimator: Estimator, model: ModelSpec, inputs: EstimateInputs, groups: Sequence[HeadGroup], kv_len: int
    ) -> None:
        self._estimator = estimator
        self._group_size = model.group_size
        self._inputs = inputs
        self._groups = groups
        self._kv_len = kv_len
        self._held: dict[tuple[EstimateKey, int], tuple[int, ...]] = {}  # KV heads whose keys a graph's input holds
        self.copied_bytes = 0

    def key(self, group: int) -> EstimateKey:
        """The graph of a group."""
        chunk = self._inputs.q_i8.shape[1]
        return EstimateKey(chunk, self._inputs.seq_len, len(self._groups[group].heads), self._groups[group].bucket)

    def prepare(self, slots: int) -> None:
        """Opens the graphs that are not open yet: not a worker's time, and its warnings are raised here."""
        for key in dict.fromkeys(self.key(group) for group in range(len(self._groups))):
            for slot in range(min(slots, len(self._groups))):  # slots are taken in turn
                self._estimator.runner(key, slot)

    def run(self, group: int, slot: int, sleep_seconds: float) -> None:
        """Fills the graph's inputs and invokes it. sleep_seconds: of an emulated launch. Raises RuntimeError."""
        key, heads = self.key(group), self._groups[group].heads
        runner = self._estimator.runner(key, slot)
        q_i8 = runner.q_i8.reshape(len(heads), *self._inputs.q_i8.shape[1:])
        for place, head in enumerate(heads):
            np.copyto(q_i8[place], self._inputs.q_i8[head])
        self.copied_bytes += q_i8.nbytes
        units = tuple(dict.fromkeys(head // self._group_size for head in heads))
        if self._held.get((key, slot)) != units:
            for place, unit in enumerate(units):  # rows beyond kv_len are never read
                np.copyto(runner.k_i8[place, : self._kv_len], self._inputs.k_i8[unit, : self._kv_len])
            self._held[key, slot] = units
            self.copied_bytes += len(units) * self._kv_len * q_i8.shape[-1]
        if sleep_seconds:
            time.sleep(sleep_seconds)
        runner.invoke()

    def scores(self, group: int, slot: int, may_share: bool) -> list[HeadScores]:
        """What run() left in that slot, as adjacent heads."""
        key = self.key(group)
        heads, bucket = self._groups[group].heads, self._groups[group].bucket
        every = self._estimator.runner(key, slot).scores_i8.reshape(len(heads), -1)
        found = []
        start = 0
        for end in range(1, len(heads) + 1):
            if end == len(heads) or heads[end] != heads[end - 1] + 1:
                part = every[start:end]
                found.append(HeadScores(heads[start], end - start, part, key.seq_len, bucket, may_share))
                start = end
        return found
