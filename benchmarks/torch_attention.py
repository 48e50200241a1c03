"""torch's dense attention, float32 and bfloat16."""

import importlib
from typing import Any

import numpy as np
from attention_kernel import BFLOAT16, FLOAT32, DenseTask, Task
from recorded import Rows


class TorchKernel:
    """torch.nn.functional.scaled_dot_product_attention. repeated: K and V once per query head, made before the time."""

    ours = False

    def __init__(self, dtype: str, repeated: bool, num_threads: int) -> None:
        self._torch = importlib.import_module("torch")
        self._num_threads = num_threads
        self._dtype = getattr(self._torch, dtype)
        self._repeated = repeated
        self.name = f"torch SDPA {dtype}{', K repeated' if repeated else ''}"
        self.exactness = FLOAT32 if dtype == "float32" else BFLOAT16

    def prefill(self, rows: Rows) -> Task:
        q, k, v = self._tensors(rows)
        attend = self._torch.nn.functional.scaled_dot_product_attention
        options = {"scale": rows.scale, "enable_gqa": not self._repeated, "is_causal": True}
        return DenseTask(lambda _: attend(q, k, v, **options), _from_torch, self._set_threads)

    def decode(self, rows: Rows, steps: int) -> Task:
        q, k, v = self._tensors(rows)
        attend = self._torch.nn.functional.scaled_dot_product_attention
        options = {"scale": rows.scale, "enable_gqa": not self._repeated}
        ends = iter(range(len(rows.q) - steps + 1, len(rows.q) + 1))

        def next_row() -> list[Any]:
            end = next(ends)
            self._set_threads()
            return [q[:, :, end - 1 : end], k[:, :, :end], v[:, :, :end]]  # views of a cache that is there

        return DenseTask(lambda row: attend(*row, **options), _from_torch, next_row)

    def _set_threads(self) -> None:
        """Before every run: another kernel of this process may use another number."""
        self._torch.set_num_threads(self._num_threads)

    def _tensors(self, rows: Rows) -> list[Any]:
        """[1,H,n,d] (k and v: [1,N_kv,n,d] where they are not repeated), contiguous."""
        found = []
        for array in (rows.q, rows.k, rows.v):
            tensor = self._torch.from_numpy(np.ascontiguousarray(array.transpose(1, 0, 2)))[None].to(self._dtype)
            if self._repeated and array is not rows.q:
                tensor = tensor.repeat_interleave(rows.group, 1)
            found.append(tensor.contiguous())
        return found


def _from_torch(result: Any) -> np.ndarray:
    return np.asarray(result[0].float().numpy())
