"""Writes a .tflite file: subgraphs that share buffers, op codes and quantisation tables.

The only user of the flatbuffer schema for writing. Weights are loaded, quantised and copied one at a time while the
file is packed, so that memory is about the size of the file.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from shadowattn.converter.recipes import Recipe, StoredWeight
from shadowattn.models.bundle import TensorInfo

FILE_LIMIT = 2**31 - 2**20
ALIGNMENT = 16
TENSOR_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "int8": schema.TensorType.INT8,
}
Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class OpCode:
    """Which kernel runs an operator: a builtin of the schema with its version, or a custom op by name."""

    builtin: int
    version: int = 1
    custom: str | None = None


class _SharedQuantization:
    """A quantisation table that is packed once and referred to by every tensor of its weight."""

    def __init__(self, scale: np.ndarray | None = None) -> None:
        self.scale = scale
        self._offset: int | None = None

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 (the object API's name)
        if self._offset is None:
            assert self.scale is not None, "a weight's table is packed after its data"
            table = schema.QuantizationParametersT()
            table.scale = self.scale.astype(np.float32)
            table.zeroPoint = np.zeros(len(self.scale), np.int64)
            table.quantizedDimension = 0
            self._offset = table.Pack(builder)
        return self._offset


@dataclasses.dataclass
class _Weight:
    """One weight of the model: where it goes and how it is fetched when the file is written."""

    buffer: int
    load: Callable[[], StoredWeight]
    quantization: _SharedQuantization | None


class ModelFile:
    """Collects the subgraphs of a .tflite file; `write` packs them. `load_weight`: name -> the weight as stored."""

    def __init__(self, recipe: Recipe, load_weight: Callable[[str], StoredWeight]) -> None:
        self.recipe = recipe
        self.subgraphs: list[Subgraph] = []
        self._load_weight = load_weight
        self._constants: list[bytes] = [b""]
        self._constant_index: dict[bytes, int] = {}
        self._weights: dict[str, _Weight] = {}
        self._op_codes: dict[OpCode, int] = {}
        self._weight_buffers: dict[int, _Weight] = {}

    def op_code(self, code: OpCode) -> int:
        """Index of an op code, added if new."""
        return self._op_codes.setdefault(code, len(self._op_codes))

    def constant_buffer(self, data: bytes) -> int:
        """Index of the buffer that holds these bytes, added if new."""
        if data not in self._constant_index:
            self._constant_index[data] = len(self._constants)
            self._constants.append(data)
        return self._constant_index[data]

    def weight(self, name: str, rank: int) -> _Weight:
        """The stored weight of that name; matrices (rank 2) follow the recipe, the rest stays float32."""
        if name not in self._weights:
            quantized = self.recipe.quantizes(name, rank)
            buffer = len(self._constants)
            self._constants.append(b"")
            weight = _Weight(
                buffer, functools.partial(self._load_weight, name), _SharedQuantization() if quantized else None
            )
            self._weights[name] = self._weight_buffers[buffer] = weight
        return self._weights[name]

    def write(self, path: Path, progress: Progress, expected_bytes: int = 1 << 20) -> None:
        """Packs and writes the file. `progress(done, total)` counts weights. Raises OSError as the file system does.

        expected_bytes: memory to set aside; a file that needs more is copied as it grows.
        """
        packed = self.pack(progress, expected_bytes)
        with path.open("wb") as file:
            file.write(packed)

    def pack(self, progress: Progress, expected_bytes: int) -> memoryview:
        """The file's bytes."""
        builder = flatbuffers.Builder(expected_bytes)
        done = 0
        buffers = []
        for index, data in enumerate(self._constants):
            weight = self._weight_buffers.get(index)
            if weight is None:
                buffers.append(_pack_buffer(builder, np.frombuffer(data, np.uint8)))
                continue
            stored = weight.load()
            buffers.append(_pack_buffer(builder, stored.data.reshape(-1).view(np.uint8)))
            if weight.quantization is not None:
                weight.quantization.scale = stored.scale
                weight.quantization.Pack(builder)
            done += 1
            progress(done, len(self._weights))
        self._finish(builder, buffers)
        return memoryview(builder.Bytes)[builder.Head() :]

    def _finish(self, builder: flatbuffers.Builder, buffers: list[int]) -> None:
        codes = [_op_code_table(code).Pack(builder) for code in self._op_codes]
        subgraphs = [graph.table.Pack(builder) for graph in self.subgraphs]
        signatures = [graph.signature_table(i).Pack(builder) for i, graph in enumerate(self.subgraphs)]
        description = builder.CreateString("shadowattn")
        vectors = [
            _vector(builder, schema.ModelStartOperatorCodesVector, codes),
            _vector(builder, schema.ModelStartSubgraphsVector, subgraphs),
            _vector(builder, schema.ModelStartBuffersVector, buffers),
            _vector(builder, schema.ModelStartSignatureDefsVector, signatures),
        ]
        schema.ModelStart(builder)
        schema.ModelAddVersion(builder, 3)
        schema.ModelAddOperatorCodes(builder, vectors[0])
        schema.ModelAddSubgraphs(builder, vectors[1])
        schema.ModelAddDescription(builder, description)
        schema.ModelAddBuffers(builder, vectors[2])
        schema.ModelAddSignatureDefs(builder, vectors[3])
        builder.Finish(schema.ModelEnd(builder), b"TFL3")


class Subgraph:
    """One signature of the file under construction. Tensor 0 is its first input, named `<signature>:<input>`.

    The delegate recognises a subgraph by that name (docs/op_spec.md, delegate options, `signatures`).
    """

    def __init__(
        self,
        model: ModelFile,
        signature: str,
        inputs: Mapping[str, TensorInfo],
        scales: Mapping[str, float] | None = None,
    ) -> None:
        """scales: of the inputs that are statically quantised."""
        self.model = model
        self.signature = signature
        self.table = schema.SubGraphT()
        self.table.name = signature.encode()
        self.table.tensors = []
        self.table.operators = []
        self._weight_tensors: dict[str, int] = {}
        self._constant_tensors: dict[tuple[int, tuple[int, ...], int], int] = {}
        self._outputs: dict[str, int] = {}
        self.inputs = {
            name: self.tensor(f"{signature}:{name}", info, (scales or {}).get(name)) for name, info in inputs.items()
        }
        self.table.inputs = np.array(list(self.inputs.values()), np.int32)
        model.subgraphs.append(self)

    def tensor(self, name: str, info: TensorInfo, scale: float | None = None) -> int:
        """Adds a tensor, with a scale if it is statically quantised; returns its index."""
        quantization = None if scale is None else _SharedQuantization(np.array([scale], np.float32))
        return self.add_tensor(name, TENSOR_TYPES[info.dtype], info.shape, quantization=quantization)

    def add_tensor(
        self,
        name: str,
        kind: int,
        shape: Iterable[int],
        buffer: int = 0,
        quantization: _SharedQuantization | None = None,
    ) -> int:
        """Adds a tensor of a schema type; returns its index."""
        tensor = schema.TensorT()
        tensor.name = name.encode()
        tensor.type = kind
        tensor.shape = np.array(tuple(shape), np.int32)
        tensor.buffer = buffer
        tensor.quantization = quantization
        tensor.hasRank = True
        self.table.tensors.append(tensor)
        return len(self.table.tensors) - 1

    def constant(self, kind: int, shape: tuple[int, ...], data: bytes) -> int:
        """Index of a constant tensor; equal ones are shared."""
        buffer = self.model.constant_buffer(data)
        key = (kind, shape, buffer)
        if key not in self._constant_tensors:
            self._constant_tensors[key] = self.add_tensor(f"constant_{buffer}", kind, shape, buffer)
        return self._constant_tensors[key]

    def weight(self, name: str, shape: tuple[int, ...]) -> int:
        """Index of the tensor of a stored weight, by its Hugging Face name."""
        if name not in self._weight_tensors:
            weight = self.model.weight(name, len(shape))
            kind = schema.TensorType.INT8 if weight.quantization else schema.TensorType.FLOAT32
            self._weight_tensors[name] = self.add_tensor(name, kind, shape, weight.buffer, weight.quantization)
        return self._weight_tensors[name]

    def operator(self, code: OpCode, inputs: list[int], outputs: list[int], options: "Options | None" = None) -> None:
        """Appends an operator; -1 stands for an input that is left out."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self.model.op_code(code)
        operator.inputs = np.array(inputs, np.int32)
        operator.outputs = np.array(outputs, np.int32)
        if options is not None:
            operator.builtinOptionsType = options.kind
            operator.builtinOptions = options.table
            if options.custom is not None:
                operator.customOptions = np.frombuffer(options.custom, np.uint8)
        self.table.operators.append(operator)

    def finish(self, outputs: Mapping[str, int]) -> None:
        """Names the outputs."""
        self._outputs = dict(outputs)
        for name, index in outputs.items():
            self.table.tensors[index].name = f"{self.signature}:{name}".encode()
        self.table.outputs = np.array(list(outputs.values()), np.int32)

    def signature_table(self, subgraph: int) -> schema.SignatureDefT:
        """The SignatureDef of subgraph number `subgraph`."""
        table = schema.SignatureDefT()
        table.signatureKey = self.signature.encode()
        table.subgraphIndex = subgraph
        table.inputs = [_tensor_map(name, index) for name, index in self.inputs.items()]
        table.outputs = [_tensor_map(name, index) for name, index in self._outputs.items()]
        return table


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of an operator: a table of the schema, or the bytes of a custom op."""

    kind: int = 0
    table: Any = None
    custom: bytes | None = None


def _tensor_map(name: str, index: int) -> schema.TensorMapT:
    entry = schema.TensorMapT()
    entry.name = name.encode()
    entry.tensorIndex = index
    return entry


def _op_code_table(code: OpCode) -> schema.OperatorCodeT:
    table = schema.OperatorCodeT()
    table.builtinCode = code.builtin
    table.deprecatedBuiltinCode = min(code.builtin, 127)
    table.version = code.version
    table.customCode = code.custom
    return table


def _pack_buffer(builder: flatbuffers.Builder, data: np.ndarray) -> int:
    """A Buffer table; the bytes are aligned as the schema's force_align asks, which the object API forgets."""
    vector = None
    if data.size:
        builder.StartVector(1, data.size, ALIGNMENT)
        builder.head -= data.size
        builder.Bytes[builder.head : builder.head + data.size] = data.tobytes()
        vector = builder.EndVector()
    schema.BufferStart(builder)
    if vector is not None:
        schema.BufferAddData(builder, vector)
    return int(schema.BufferEnd(builder))


def _vector(builder: flatbuffers.Builder, start: Callable[[flatbuffers.Builder, int], Any], offsets: list[int]) -> int:
    start(builder, len(offsets))
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
