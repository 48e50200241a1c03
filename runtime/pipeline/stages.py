"""shadow_append and shadow_attend (delegate/abi/shadow_abi.h): the steps between the graphs of the pipelined executor.

They read q, k and v where a linear graph left them, write what estimate graphs read, and put o where the next linear
graph takes it: nothing is copied on the way.
"""

import ctypes
import dataclasses
import enum

import numpy as np

from shadowattn.models.op_options import OpOptions
from shadowattn.models.spec import ModelSpec
from shadowattn.runtime.litert.delegate import ShadowDelegate


class Scales(enum.IntEnum):
    """Whose scales an estimate's integers have (docs/op_spec.md, quantise)."""

    RANK = 0  # rank-invariant: queries by their own spread, keys as the cache has them
    NEAREST = 1  # the grid's bucket nearest to a head's measured scales, by squared distance (the paper's)
    LOG = 2  # by their ratio
    ONE = 3  # the bucket in the middle of the grid, whatever was measured


class _Chunk(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        *((name, ctypes.c_int32) for name in ("cache", "layer", "time")),
        *((name, ctypes.c_int64) for name in ("position", "n_valid")),
        ("options", ctypes.c_char_p),
        *((name, ctypes.c_void_p) for name in ("q", "k", "v")),
    ]


class _EstimateInputs(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("scales", ctypes.c_int32),
        ("seq_len", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("q_i8", "k_i8", "buckets")),
        *((name, ctypes.c_int64) for name in ("clamped", "outside")),
    ]


class _Heads(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        *((name, ctypes.c_int32) for name in ("first", "count", "bucket", "may_share", "reserved")),
        ("scores_length", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("scores", "out")),
    ]


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of one layer's chunk: q float32 [1,T,H,d], k and v [1,T,N_kv,d], of which n_valid are real."""

    cache: int
    layer: int
    position: int
    n_valid: int
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray


@dataclasses.dataclass(frozen=True)
class HeadScores:
    """Query heads [first, first + count), and their scores int8 [count,T,S] in any shape of that order, or None: the op
    estimates itself. bucket: of the scales. may_share: whether the delegate's other threads may help."""

    first: int
    count: int
    scores: np.ndarray | None = None
    seq_len: int = 0
    bucket: int = 0
    may_share: bool = True


class EstimateInputs:
    """What the estimate graphs of one chunk length and bucket read: q_i8 [H,T,d], k_i8 [N_kv,S,d]. And what was found
    of the latest layer: buckets int32 [H], clamped elements, heads whose scales lie outside the grid."""

    def __init__(self, model: ModelSpec, chunk: int, seq_len: int) -> None:
        self.chunk = chunk
        self.seq_len = seq_len
        self.q_i8 = np.zeros((model.num_heads, chunk, model.head_dim), np.int8)
        self.k_i8 = np.zeros((model.num_kv_heads, seq_len, model.head_dim), np.int8)
        self.buckets = np.zeros(model.num_heads, np.int32)
        self.clamped = 0
        self.outside = 0


class Stages:
    """The two functions, for one model."""

    def __init__(self, shadow: ShadowDelegate, model: ModelSpec) -> None:
        self._shadow = shadow
        self._model = model
        self._options = OpOptions.of(model, 0).pack()  # a chunk says its layer itself

    def append(self, rows: Rows, inputs: EstimateInputs | None, scales: Scales) -> None:
        """Appends k and v; writes `inputs` unless it is None. Raises ValueError with the delegate's message."""
        chunk = self._chunk(rows)
        if inputs is None:
            self._shadow.call("shadow_append", ctypes.byref(chunk), None)
            return
        pointers = (array.ctypes.data for array in (inputs.q_i8, inputs.k_i8, inputs.buckets))
        raw = _EstimateInputs(ctypes.sizeof(_EstimateInputs), int(scales), inputs.seq_len, *pointers)
        self._shadow.call("shadow_append", ctypes.byref(chunk), ctypes.byref(raw))
        inputs.clamped, inputs.outside = raw.clamped, raw.outside

    def attend(self, rows: Rows, heads: HeadScores, out: np.ndarray) -> None:
        """Selects and attends; writes the heads' part of out float32 [1,T,H*d]. Raises ValueError."""
        chunk = self._chunk(rows)
        _check("out", out, np.float32, chunk.time * self._model.num_heads * self._model.head_dim)
        if heads.scores is not None:
            _check("scores", heads.scores, np.int8, heads.count * chunk.time * heads.seq_len)
        which = (heads.first, heads.count, heads.bucket, int(heads.may_share), 0, heads.seq_len)
        scores = None if heads.scores is None else heads.scores.ctypes.data
        raw = _Heads(ctypes.sizeof(_Heads), *which, scores, out.ctypes.data)
        self._shadow.call("shadow_attend", ctypes.byref(chunk), ctypes.byref(raw))

    def _chunk(self, rows: Rows) -> _Chunk:
        time, model = rows.q.shape[1], self._model
        for name, heads in (("q", model.num_heads), ("k", model.num_kv_heads), ("v", model.num_kv_heads)):
            _check(name, getattr(rows, name), np.float32, time * heads * model.head_dim)
        which = (rows.cache, rows.layer, time, rows.position, rows.n_valid, self._options)
        return _Chunk(ctypes.sizeof(_Chunk), *which, *(array.ctypes.data for array in (rows.q, rows.k, rows.v)))


def _check(name: str, array: np.ndarray, dtype: type, size: int) -> None:
    """Only a pointer goes on from here."""
    if array.dtype != dtype or array.size != size or not array.flags.c_contiguous:
        raise ValueError(
            f"{name}: wanted {size} contiguous elements of {np.dtype(dtype)}, got {array.size} of {array.dtype}"
        )
