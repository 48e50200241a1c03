"""Plan data: what calibration measured and the delegate needs (the twin of delegate/plan.h).

A plan is data of a bundle, not of its graphs, so that recalibrating never rewrites a model. The file `plan.bin`,
little-endian: `SHPL`, u32 version, i32 num_layers, num_heads, num_kv_heads, head_dim, f32 estimate_multiplier, u32 0;
then per layer centre f32 [N_kv,d], scale f32 [N_kv], k_variance f32 [N_kv,d]; at the end the CRC-32 of all before it.
"""

import dataclasses
import struct
import zlib

import numpy as np

MAGIC = b"SHPL"
VERSION = 1
FILE_NAME = "plan.bin"
_HEADER = struct.Struct("<4sIiiiifI")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Static quantisation of K, and of the estimate graph's output.

    centre [L,N_kv,d] float32: mean of K per channel, subtracted before quantising (shifts a row's scores equally).
    scale [L,N_kv] float32: INT8 step of the centred K.
    k_variance [L,N_kv,d] float32: variance of the INT8 keys per channel, which predicts a query's score spread.
    estimate_multiplier: score_i8 per int32 accumulator step in the estimate graph (its static output scale).
    """

    num_heads: int
    centre: np.ndarray
    scale: np.ndarray
    k_variance: np.ndarray
    estimate_multiplier: float

    def __post_init__(self) -> None:
        layers, kv_heads, head_dim = self.centre.shape
        if self.scale.shape != (layers, kv_heads) or self.k_variance.shape != (layers, kv_heads, head_dim):
            raise ValueError(
                f"plan: shapes disagree: centre {self.centre.shape}, scale {self.scale.shape}, "
                f"k_variance {self.k_variance.shape}"
            )
        for name in ("centre", "scale", "k_variance"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"plan: {name} holds NaN or infinity; calibrate again on other text")
        if not (self.scale > 0).all() or not (self.k_variance >= 0).all():
            raise ValueError("plan: scales must be positive and variances not negative; calibrate again")
        if not (np.isfinite(self.estimate_multiplier) and self.estimate_multiplier > 0):
            raise ValueError(f"plan: estimate_multiplier must be positive, got {self.estimate_multiplier}")

    @property
    def num_layers(self) -> int:
        return int(self.centre.shape[0])

    @property
    def num_kv_heads(self) -> int:
        return int(self.centre.shape[1])

    @property
    def head_dim(self) -> int:
        return int(self.centre.shape[2])

    def to_bytes(self) -> bytes:
        """The bytes of plan.bin."""
        dims = (self.num_layers, self.num_heads, self.num_kv_heads, self.head_dim)
        parts = [_HEADER.pack(MAGIC, VERSION, *dims, self.estimate_multiplier, 0)]
        for layer in range(self.num_layers):
            for array in (self.centre, self.scale, self.k_variance):
                parts.append(np.ascontiguousarray(array[layer], "<f4").tobytes())
        body = b"".join(parts)
        return body + struct.pack("<I", zlib.crc32(body))

    @classmethod
    def from_bytes(cls, data: bytes, where: str = FILE_NAME) -> "Plan":
        """Reads plan.bin. Raises ValueError that names `where` if it is truncated, damaged or of another version."""
        layers, heads, kv_heads, head_dim, multiplier = _check_header(data, where)
        values = np.frombuffer(data, "<f4", offset=_HEADER.size, count=layers * kv_heads * (2 * head_dim + 1))
        rows = values.reshape(layers, kv_heads * (2 * head_dim + 1))
        wide = kv_heads * head_dim
        return cls(
            num_heads=heads,
            centre=rows[:, :wide].reshape(layers, kv_heads, head_dim).copy(),
            scale=rows[:, wide : wide + kv_heads].copy(),
            k_variance=rows[:, wide + kv_heads :].reshape(layers, kv_heads, head_dim).copy(),
            estimate_multiplier=multiplier,
        )


def _check_header(data: bytes, where: str) -> tuple[int, int, int, int, float]:
    if len(data) < _HEADER.size + 4 or data[:4] != MAGIC:
        raise ValueError(f"{where}: not a plan file (wanted {MAGIC!r} and a header); calibrate or convert again")
    _, version, layers, heads, kv_heads, head_dim, multiplier, _ = _HEADER.unpack(data[: _HEADER.size])
    if version != VERSION:
        raise ValueError(f"{where}: plan version {version} is not {VERSION}; update shadowattn or calibrate again")
    if min(layers, heads, kv_heads, head_dim) < 1:
        raise ValueError(f"{where}: impossible shape {(layers, heads, kv_heads, head_dim)}; calibrate again")
    wanted = _HEADER.size + 4 * layers * kv_heads * (2 * head_dim + 1) + 4
    if len(data) != wanted:
        raise ValueError(f"{where}: expected {wanted} bytes, got {len(data)}; the file is truncated, calibrate again")
    if zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
        raise ValueError(f"{where}: wrong checksum; the file is damaged, calibrate again")
    return layers, heads, kv_heads, head_dim, multiplier
