"""torch pieces -> LiteRT pieces (the only caller of litert_torch).

A Piece is a graph fragment whose constants are told apart: those that equal a parameter of the torch module are known
by the parameter's name, and get the right layer's weight when the piece is placed; the others (axes, shapes, epsilon)
are kept.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import nn

from shadowattn.converter import toolchain
from shadowattn.converter.flatbuffer import OpCode, Options
from shadowattn.converter.layers import AfterAttention, BeforeAttention, Final, Rope
from shadowattn.models.spec import ModelSpec

PIECES = ("rope", "before", "after", "final")


@dataclasses.dataclass(frozen=True)
class PieceTensor:
    """kind: TensorType of the schema; a constant has `data` or is the module's `parameter` of that name."""

    kind: int
    shape: tuple[int, ...]
    data: bytes | None = None
    parameter: str | None = None


@dataclasses.dataclass(frozen=True)
class PieceOperator:
    """One operator; inputs and outputs index the piece's tensors (-1: left out)."""

    code: OpCode
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Options


@dataclasses.dataclass(frozen=True)
class Piece:
    """A converted module: tensors, operators, and its inputs and outputs by name."""

    tensors: tuple[PieceTensor, ...]
    operators: tuple[PieceOperator, ...]
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


def convert_pieces(
    spec: ModelSpec, chunks: tuple[int, ...], rotated: bool, progress: Callable[[int, int], None]
) -> dict[tuple[str, int], Piece]:
    """(piece name, chunk length T) -> Piece, for every T. The modules hold random weights: only their shapes matter.

    rotated: of the layers.
    """
    pieces: dict[tuple[str, int], Piece] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for number, chunk in enumerate(chunks):
            progress(number, len(chunks))
            modules = _modules(spec, chunk, rotated)
            model = _convert(modules)
            for name, (module, _) in modules.items():
                pieces[name, chunk] = _read_piece(model, name, module)
    progress(len(chunks), len(chunks))
    return pieces


def _modules(spec: ModelSpec, chunk: int, rotated: bool) -> dict[str, tuple[nn.Module, dict[str, torch.Tensor]]]:
    """Piece name -> (module, sample inputs)."""
    number = torch.zeros(1, dtype=torch.int32)
    residual = torch.zeros(1, chunk, spec.hidden_size)
    # Two tensors, not one twice: torch.export takes equal inputs for the same input.
    cos, sin = torch.zeros(1, chunk, 1, spec.head_dim), torch.zeros(1, chunk, 1, spec.head_dim)
    o = torch.zeros(1, chunk, spec.num_heads * spec.head_dim)
    return {
        "rope": (Rope(spec, chunk), {"position": number}),
        "before": (BeforeAttention(spec, rotated), {"residual": residual, "cos": cos, "sin": sin}),
        "after": (AfterAttention(spec, rotated), {"o": o, "residual": residual}),
        "final": (Final(spec, rotated), {"residual": residual, "n_valid": number}),
    }


def _convert(modules: Mapping[str, tuple[nn.Module, dict[str, torch.Tensor]]]) -> schema.ModelT:
    converter: Any = toolchain.load()
    for name, (module, sample) in modules.items():
        converter = converter.signature(name, module.eval(), sample_kwargs=sample)
    with toolchain.quiet():
        content = converter.convert().model_content()
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def _read_piece(model: schema.ModelT, name: str, module: nn.Module) -> Piece:
    """Subgraph of signature `name` -> Piece, with the module's parameters recognised by their bytes."""
    signature = next(s for s in model.signatureDefs if s.signatureKey.decode() == name)
    graph = model.subgraphs[signature.subgraphIndex]
    parameters = {p.detach().numpy().tobytes(): key for key, p in module.named_parameters()}
    tensors = tuple(_read_tensor(model, tensor, parameters) for tensor in graph.tensors)
    operators = tuple(_read_operator(model, operator) for operator in graph.operators)
    found = {tensors[i].parameter for op in operators for i in op.inputs if i >= 0} - {None}
    missing = set(parameters.values()) - found
    if missing:
        raise RuntimeError(
            f"piece {name!r}: litert_torch changed the parameters {sorted(missing)} while converting; "
            "use the version that this was made for (pip install litert-torch==0.10.0)"
        )
    return Piece(
        tensors,
        operators,
        {entry.name.decode(): int(entry.tensorIndex) for entry in signature.inputs},
        {entry.name.decode(): int(entry.tensorIndex) for entry in signature.outputs},
    )


def _read_tensor(model: schema.ModelT, tensor: schema.TensorT, parameters: Mapping[bytes, str]) -> PieceTensor:
    data = model.buffers[tensor.buffer].data
    content = None if data is None or len(data) == 0 else np.asarray(data, np.uint8).tobytes()
    shape = () if tensor.shape is None else tuple(int(size) for size in tensor.shape)
    name = None if content is None else parameters.get(content)
    return PieceTensor(int(tensor.type), shape, None if name else content, name)


def _read_operator(model: schema.ModelT, operator: schema.OperatorT) -> PieceOperator:
    code = model.operatorCodes[operator.opcodeIndex]
    return PieceOperator(
        OpCode(int(code.builtinCode), int(code.version)),
        tuple(int(i) for i in operator.inputs),
        tuple(int(i) for i in operator.outputs),
        Options(int(operator.builtinOptionsType), operator.builtinOptions),
    )
