"""Bytes of the custom op's options: the Python twin of delegate/config/op_options.h (docs/op_spec.md, option bytes)."""

import dataclasses
import struct
import zlib

from shadowattn.models.spec import MAX_HEAD_DIM, ModelSpec

SPARSE_ATTENTION = "ShadowSparseAttention"

MAGIC = b"SHDW"
VERSION = 1
FUSED = 1  # the only flag: the op appends k and v, and attends
SIZE = 40
_BODY = struct.Struct("<4sHHiiiiifi")  # the last number is reserved and 0


@dataclasses.dataclass(frozen=True)
class OpOptions:
    """Static facts of one op. Raises ValueError for numbers that no op can have."""

    layer: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    softmax_scale: float

    def __post_init__(self) -> None:
        if self.num_kv_heads < 1 or self.num_heads < 1 or self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"op options: num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        if not 1 <= self.head_dim <= MAX_HEAD_DIM:
            raise ValueError(f"op options: head_dim must be in 1..{MAX_HEAD_DIM}, got {self.head_dim}")
        if not 0 <= self.layer < self.num_layers:
            raise ValueError(f"op options: layer {self.layer} does not fit num_layers {self.num_layers}")

    @classmethod
    def of(cls, model: ModelSpec, layer: int) -> "OpOptions":
        """The options of one layer of a model."""
        return cls(layer, model.num_layers, model.num_heads, model.num_kv_heads, model.head_dim, model.softmax_scale)

    def pack(self) -> bytes:
        """The 40 bytes of docs/op_spec.md."""
        body = _BODY.pack(MAGIC, VERSION, FUSED, *dataclasses.astuple(self), 0)
        return body + struct.pack("<I", zlib.crc32(body))

    @classmethod
    def unpack(cls, data: bytes) -> "OpOptions":
        """Reads the bytes back. Raises ValueError for a truncated, corrupted or newer blob, and for unknown flags."""
        if len(data) != SIZE:
            raise ValueError(f"op options: expected {SIZE} bytes, got {len(data)}; convert the model again")
        magic, version, flags, *numbers, reserved = _BODY.unpack(data[: _BODY.size])
        if magic != MAGIC:
            raise ValueError(f"op options: expected magic {MAGIC!r}, got {magic!r}; not an op of this project")
        if version != VERSION:
            raise ValueError(f"op options: version {version} is not {VERSION}; update shadowattn or convert again")
        if zlib.crc32(data[: _BODY.size]) != struct.unpack("<I", data[_BODY.size :])[0]:
            raise ValueError("op options: wrong checksum; the model file is damaged, convert it again")
        if flags != FUSED or reserved:
            raise ValueError(
                f"op options: wanted flags {FUSED} and a reserved 0, got {flags} and {reserved}; "
                "convert the model again"
            )
        return cls(*numbers)
