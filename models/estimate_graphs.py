"""The estimate graphs of the pipelined executor: their names, their shapes, and the file that holds them.

Each is a model file of its own, one static INT8 BATCH_MATMUL for one head group: an NPU prepares just those that a
prompt needs. `estimates.zip` stores them uncompressed, each as `<name>.tflite`.
"""

import dataclasses
import re

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
