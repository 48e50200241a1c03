"""One signature of a model file, opened as benchmark_model opens it: resized, delegated, allocated.

Unlike litert.GraphSet it takes any file and any delegate or none, and what nobody claimed is a finding, not an error.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from shadowattn.runtime.benchmark_model.arguments import InputLayer
from shadowattn.runtime.benchmark_model.target import Target, pick_signature
from shadowattn.runtime.litert import interpreter as litert
from shadowattn.runtime.litert.delegate import ShadowDelegate
from shadowattn.runtime.litert.nodes import Node, NodeProbe

_KINDS = "fciub"  # of NumPy: float, complex, signed, unsigned, bool
_LARGEST_INPUT = 2**31


@dataclasses.dataclass(frozen=True)
class Input:
    """An input of the graph. tensor: its name in the file."""

    name: str
    tensor: str
    index: int
    dtype: np.dtype
    shape: tuple[int, ...]


class BenchmarkGraph:
    """Make it, then apply_delegate(), then prepare(); close() lets go of everything in the right order."""

    def __init__(self, target: Target, num_threads: int, use_xnnpack: bool) -> None:
        """Raises ValueError."""
        self._target = target
        self._runner: litert.GraphRunner | None = None
        self._resized = False
        self._delegate: litert.Delegate | None = None  # type: ignore[name-defined]
        self._errors = litert.ErrorLog()
        try:
            self._interpreter = litert.open_interpreter(target.model, num_threads, use_xnnpack)
        except (ValueError, RuntimeError) as error:
            reason = litert.short(error)
            raise ValueError(f"{target.model}: LiteRT cannot open it ({reason}); wanted a .tflite file") from None
        self._choose_signature()

    def _choose_signature(self) -> None:
        signatures = self._native.GetSignatureDefs() or {}
        self.signature = pick_signature(signatures, self._target.signature, str(self._target.model))
        if self.signature:
            self._definition: Mapping[str, Mapping[str, int]] = signatures[self.signature]
            self.subgraph = int(self._native.GetSubgraphIndexFromSignature(self.signature))
        else:
            self.subgraph = 0
            sides = {"inputs": self._native.InputIndices(), "outputs": self._native.OutputIndices()}
            self._definition = {
                side: {self._native.TensorName(int(index), 0): int(index) for index in indices}
                for side, indices in sides.items()
            }

    @property
    def _native(self):  # type: ignore[no-untyped-def]
        return self._interpreter._interpreter

    def inputs(self) -> list[Input]:
        """In the order of their tensors, which in files of our converter is the order of the graph's inputs."""
        native, found = self._native, []
        for name, index in sorted(self._definition["inputs"].items(), key=lambda item: item[1]):
            shape = tuple(int(size) for size in native.TensorSize(index, self.subgraph))
            dtype = np.dtype(native.TensorType(index, self.subgraph))
            if dtype.kind not in _KINDS:
                raise ValueError(f"{self._target.model}: input {name!r} is of type {dtype}; only numbers can be filled")
            found.append(Input(name, native.TensorName(index, self.subgraph), index, dtype, shape))
        return found

    def resize(self, layers: Sequence[InputLayer]) -> list[InputLayer | None]:
        """Gives the inputs the shapes of the flags -> the flags' layer of each input. Raises ValueError."""
        inputs = self.inputs()
        matched = match_layers(inputs, layers)
        for entry, layer in zip(inputs, matched, strict=True):
            if layer is None or layer.shape == entry.shape:
                continue
            if len(layer.shape) != len(entry.shape) or np.prod(layer.shape, dtype=float) * 8 > _LARGEST_INPUT:
                raise ValueError(f"--input_layer_shape: input {entry.name!r} is {list(entry.shape)} in the file, got "
                                 f"{list(layer.shape)}; give it as many dimensions, below 2 GiB")  # fmt: skip
            self._resized = True
            self._native.ResizeInputTensor(entry.index, np.array(layer.shape, np.int32), False, self.subgraph)
        return matched

    def apply_delegate(self) -> None:
        """Creates the delegate and shows it the graph, before XNNPACK sees it. Raises ValueError."""
        library = self._target.library
        assert library is not None
        try:
            self._delegate = litert.load_delegate(library, self._target.options)
            self._native.ModifyGraphWithDelegate(self._pointer)
        except RuntimeError as error:
            raise ValueError(f"{library}: was not applied: {self._errors.news(error)}") from None

    def prepare(self) -> None:
        """Allocates, whereby LiteRT applies XNNPACK to what is left. Raises ValueError."""
        self._probe = NodeProbe(self._pointer)
        self._native.ModifyGraphWithDelegate(self._probe.pointer)
        try:
            self._runner = litert.GraphRunner(
                self._interpreter, self._errors, self.signature or "the graph", self.subgraph, self._definition
            )
        except RuntimeError as error:
            raise ValueError(f"{self._target.model}: {error}{self._why_unprepared(str(error))}") from None

    def _why_unprepared(self, reason: str) -> str:
        if "unresolved custom op" in reason:
            return "; give --external_delegate_path with a delegate that has the op"
        return "; the graph may take no other shapes than the file's" if self._resized else ""

    @property
    def options(self) -> dict[str, str]:
        """The delegate's."""
        return self._target.options

    @property
    def runner(self) -> "litert.GraphRunner":
        assert self._runner is not None
        return self._runner

    def nodes(self) -> list[Node]:
        """The file's nodes; the runner "shadow" is the external delegate, whichever it is."""
        return self._probe.nodes(self.subgraph)

    def shadow(self) -> ShadowDelegate | None:
        """Our delegate's own interface; None if the delegate is not ours."""
        library = self._target.shadow
        return None if library is None or self._delegate is None else ShadowDelegate(library, self._pointer)

    def close(self) -> None:
        """The interpreter goes before what it uses, even while a traceback holds a view of a tensor."""
        if self._runner is not None:
            self._runner.close()
        litert.outlive(self._interpreter, self._delegate, getattr(self, "_probe", None))
        del self._interpreter

    @property
    def _pointer(self) -> int:
        return 0 if self._delegate is None else litert.delegate_pointer(self._delegate)


def match_layers(inputs: Sequence[Input], layers: Sequence[InputLayer]) -> list[InputLayer | None]:
    """The flags' layer of each input, by the signature's name or the tensor's. Raises ValueError."""
    if not layers:
        return [None] * len(inputs)
    named = {layer.name: layer for layer in layers}
    matched = [named.get(entry.name) or named.get(entry.tensor) for entry in inputs]
    if len(layers) != len(inputs) or None in matched:
        names = ",".join(entry.name for entry in inputs)
        shapes = ":".join(",".join(map(str, entry.shape)) for entry in inputs)
        raise ValueError(
            f"--input_layer: wanted every input of the graph, got {','.join(named)}; "
            f"write --input_layer={names} --input_layer_shape={shapes}"
        )
    return matched
