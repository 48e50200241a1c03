"""Writes small .tflite files op by op with the flatbuffer schema: what the tests' tiny bundles are made with."""

from collections.abc import Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_TYPES = {"float32": schema.TensorType.FLOAT32, "int32": schema.TensorType.INT32, "int8": schema.TensorType.INT8}
_VERSIONS = {"FULLY_CONNECTED": 5, "BATCH_MATMUL": 2}
_OPTIONS = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "MEAN": "ReducerOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "CONCATENATION": "ConcatenationOptions",
    "GATHER": "GatherOptions",
    "GATHER_ND": "GatherNdOptions",
    "CAST": "CastOptions",
    "SLICE": "SliceOptions",
    "RESHAPE": "ReshapeOptions",
    "LOG_SOFTMAX": "LogSoftmaxOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
}


class FlatModel:
    """A .tflite file under construction: one signature per graph, constants stored once by name."""

    def __init__(self) -> None:
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.description = b"shadowattn test model"
        self._model.buffers = [schema.BufferT()]
        self._model.operatorCodes = []
        self._model.subgraphs = []
        self._model.signatureDefs = []
        self._constants: dict[str, int] = {}
        self._codes: dict[str, int] = {}

    def graph(self, signature: str) -> "FlatGraph":
        """Starts the next subgraph."""
        return FlatGraph(self, signature)

    def constant_buffer(self, name: str, value: np.ndarray) -> int:
        """Index of the buffer of that name; written at first use."""
        if name not in self._constants:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(value.tobytes(), np.uint8)
            self._model.buffers.append(buffer)
            self._constants[name] = len(self._model.buffers) - 1
        return self._constants[name]

    def opcode(self, op: str) -> int:
        """Index of the operator code of a builtin, or of a custom op (any name that is no builtin)."""
        if op not in self._codes:
            code = schema.OperatorCodeT()
            builtin = getattr(schema.BuiltinOperator, op, None)
            code.builtinCode = schema.BuiltinOperator.CUSTOM if builtin is None else builtin
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.customCode = op.encode() if builtin is None else None
            code.version = _VERSIONS.get(op, 1)
            self._model.operatorCodes.append(code)
            self._codes[op] = len(self._model.operatorCodes) - 1
        return self._codes[op]

    def add(self, subgraph: schema.SubGraphT, signature: schema.SignatureDefT) -> None:
        signature.subgraphIndex = len(self._model.subgraphs)
        self._model.subgraphs.append(subgraph)
        self._model.signatureDefs.append(signature)

    def to_bytes(self) -> bytes:
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


class FlatGraph:
    """One subgraph. Tensors are indices; tensor 0 is the first input, named "<signature>:<input>"."""

    def __init__(self, model: FlatModel, signature: str) -> None:
        self._model = model
        self._signature = signature
        self._tensors: list[schema.TensorT] = []
        self._operators: list[schema.OperatorT] = []
        self._inputs: dict[str, int] = {}

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32", scale: float | None = None) -> int:
        self._inputs[name] = self._tensor(f"{self._signature}:{name}", shape, dtype, scale=scale)
        return self._inputs[name]

    def constant(self, name: str, value: np.ndarray, scale: float | None = None) -> int:
        """A constant; graphs that use the same name share its bytes."""
        buffer = self._model.constant_buffer(name, value)
        return self._tensor(name, value.shape, str(value.dtype), buffer, scale)

    def op(
        self, op: str, inputs: Sequence[int], shape: Sequence[int], dtype: str = "float32", **options: object
    ) -> int:
        """Appends a builtin with one output and returns it. `options` are fields of the op's options table."""
        scale = options.pop("scale", None)
        output = self._tensor(f"t{len(self._tensors)}", shape, dtype, scale=scale)  # type: ignore[arg-type]
        operator = self._operator(op, inputs, [output])
        if op in _OPTIONS:
            table = getattr(schema, f"{_OPTIONS[op]}T")()
            for key, value in options.items():
                setattr(table, key, value)
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, _OPTIONS[op])
            operator.builtinOptions = table
        return output

    def custom(
        self, op: str, inputs: Sequence[int], outputs: Sequence[tuple[Sequence[int], str, float | None]], data: bytes
    ) -> list[int]:
        """Appends a custom op; outputs are (shape, dtype, scale)."""
        tensors = [self._tensor(f"t{len(self._tensors)}", shape, dtype, 0, scale) for shape, dtype, scale in outputs]
        operator = self._operator(op, inputs, tensors)
        operator.customOptions = np.frombuffer(data, np.uint8)
        return tensors

    def finish(self, outputs: dict[str, int]) -> None:
        """Closes the graph and adds it to the model under its signature."""
        subgraph = schema.SubGraphT()
        subgraph.name = self._signature.encode()
        subgraph.tensors = self._tensors
        subgraph.operators = self._operators
        subgraph.inputs = np.array(list(self._inputs.values()), np.int32)
        subgraph.outputs = np.array(list(outputs.values()), np.int32)
        signature = schema.SignatureDefT()
        signature.signatureKey = self._signature.encode()
        signature.inputs = [_tensor_map(name, index) for name, index in self._inputs.items()]
        signature.outputs = [_tensor_map(name, index) for name, index in outputs.items()]
        self._model.add(subgraph, signature)

    def _operator(self, op: str, inputs: Sequence[int], outputs: Sequence[int]) -> schema.OperatorT:
        operator = schema.OperatorT()
        operator.opcodeIndex = self._model.opcode(op)
        operator.inputs = np.array(inputs, np.int32)
        operator.outputs = np.array(outputs, np.int32)
        self._operators.append(operator)
        return operator

    def _tensor(self, name: str, shape: Sequence[int], dtype: str, buffer: int = 0, scale: float | None = None) -> int:
        tensor = schema.TensorT()
        tensor.name = name.encode()
        tensor.shape = np.array(shape, np.int32)
        tensor.type = _TYPES[dtype]
        tensor.buffer = buffer
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.array([scale], np.float32)
            tensor.quantization.zeroPoint = np.zeros(1, np.int64)
        self._tensors.append(tensor)
        return len(self._tensors) - 1


def _tensor_map(name: str, index: int) -> schema.TensorMapT:
    entry = schema.TensorMapT()
    entry.name = name.encode()
    entry.tensorIndex = index
    return entry
