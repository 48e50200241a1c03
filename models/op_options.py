"""Bytes of the custom ops' options: the Python twin of delegate/op_options.h (docs/op_spec.md, option bytes)."""

import dataclasses
import enum
import struct
import zlib

SPARSE_ATTENTION = "ShadowSparseAttention"
KV_APPEND = "ShadowKvAppend"

MAGIC = b"SHDW"
VERSION = 1
SIZE = 40
MAX_HEAD_DIM = 512
_BODY = struct.Struct("<4sHHiiiiifi")


class Form(enum.IntFlag):
    """Which inputs an op has."""

    FUSED = 1
    SCORES = 2
    LAYER_INPUT = 4


@dataclasses.dataclass(frozen=True)
class OpOptions:
    """Static facts of one op. `layer` is -1 with LAYER_INPUT; `seq_len` is S of ShadowKvAppend, else 0."""

    form: Form
    layer: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    softmax_scale: float
    seq_len: int = 0

    def __post_init__(self) -> None:
        if self.num_kv_heads < 1 or self.num_heads < 1 or self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"op options: num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        if not 1 <= self.head_dim <= MAX_HEAD_DIM:
            raise ValueError(f"op options: head_dim must be in 1..{MAX_HEAD_DIM}, got {self.head_dim}")
        wants_input = bool(self.form & Form.LAYER_INPUT)
        if self.num_layers < 1 or (self.layer != -1 if wants_input else not 0 <= self.layer < self.num_layers):
            raise ValueError(
                f"op options: layer {self.layer} does not fit num_layers {self.num_layers} and form {self.form!r}"
            )

    def pack(self) -> bytes:
        """The 40 bytes of docs/op_spec.md."""
        body = _BODY.pack(
            MAGIC,
            VERSION,
            int(self.form),
            self.layer,
            self.num_layers,
            self.num_heads,
            self.num_kv_heads,
            self.head_dim,
            self.softmax_scale,
            self.seq_len,
        )
        return body + struct.pack("<I", zlib.crc32(body))

    @classmethod
    def unpack(cls, data: bytes) -> "OpOptions":
        """Reads the bytes back. Raises ValueError for a truncated, corrupted or newer blob."""
        if len(data) != SIZE:
            raise ValueError(f"op options: expected {SIZE} bytes, got {len(data)}; convert the model again")
        magic, version, form, *numbers = _BODY.unpack(data[: _BODY.size])
        if magic != MAGIC:
            raise ValueError(f"op options: expected magic {MAGIC!r}, got {magic!r}; not an op of this project")
        if version != VERSION:
            raise ValueError(f"op options: version {version} is not {VERSION}; update shadowattn or convert again")
        if zlib.crc32(data[: _BODY.size]) != struct.unpack("<I", data[_BODY.size :])[0]:
            raise ValueError("op options: wrong checksum; the model file is damaged, convert it again")
        return cls(Form(form), *numbers)
