"""The estimate graphs of the pipelined executor: their names, their shapes, and the file that holds them.

Each is a model file of its own, one static INT8 BATCH_MATMUL for one head group: an NPU prepares just those that a
prompt needs. `estimates.zip` stores them uncompressed, each as `<name>.tflite`.
"""

import dataclasses
import re
from collections.abc import Sequence

from shadowattn.models.spec import ModelSpec

FILE_NAME = "estimates.zip"
RANK_INVARIANT = 0  # the bucket whose scale serves every head; those of the plan's grid follow from 1
_NAME = re.compile(r"estimate_(\d+)_(\d+)_(\d+)_(\d+)")


@dataclasses.dataclass(frozen=True, order=True)
class EstimateKey:
    """chunk: T; seq_len: bucket length S; heads: query heads of the group, a part of one KV head's or all of several's;
    bucket: of scales."""

    chunk: int
    seq_len: int
    heads: int
    bucket: int = RANK_INVARIANT

    @property
    def name(self) -> str:
        """estimate_<T>_<S>_<heads>_<bucket>."""
        return f"estimate_{self.chunk}_{self.seq_len}_{self.heads}_{self.bucket}"

    @classmethod
    def parse(cls, name: str) -> "EstimateKey":
        """Raises ValueError for another name."""
        if match := _NAME.fullmatch(name):
            return cls(*map(int, match.groups()))
        raise ValueError(f"{name!r}: wanted estimate_<T>_<S>_<heads>_<bucket>; convert the model again")

    def shapes(self, model: ModelSpec) -> tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]:
        """q_i8 [units,rows,d], k_i8 [units,S,d], scores_i8 [units,rows,S]: rows are head-major, (head, t). ValueError
        where `heads` is neither a part of a KV head's nor whole KV heads."""
        group = model.group_size
        if not 1 <= self.heads <= model.num_heads or (self.heads > group and self.heads % group):
            raise ValueError(
                f"{self.name}: {self.heads} heads are neither at most a KV head's {group} nor a multiple of them"
            )
        units = max(1, self.heads // group)
        rows = self.heads // units * self.chunk
        d = model.head_dim
        return (units, rows, d), (units, self.seq_len, d), (units, rows, self.seq_len)


def keys_of_bundle(
    model: ModelSpec, ladder: Sequence[int], seq_lens: Sequence[int], buckets: int
) -> tuple[EstimateKey, ...]:
    """The graphs of a bundle with prefill chunks `ladder`, ascending, and `buckets` in its grid (0: no grid).

    The longest chunk has groups of 1 head and of 1, 2, 4, ... and all KV heads, for a planner to choose from; the
    others have 1 head, one KV head and all. A chunk of one row has none: its estimate is cheaper inside the op.
    """
    longest = ladder[-1]
    return tuple(
        EstimateKey(chunk, seq_len, heads, bucket)
        for chunk in ladder
        if chunk > 1
        for seq_len in seq_lens
        for heads in _group_sizes(model, every=chunk == longest)
        for bucket in (RANK_INVARIANT, *range(1, 1 + buckets))
    )


def _group_sizes(model: ModelSpec, every: bool) -> list[int]:
    doubled = [1 << i for i in range(model.num_kv_heads.bit_length())]
    units = {*(doubled if every else [1]), model.num_kv_heads}
    return sorted({1, *(unit * model.group_size for unit in units)})
