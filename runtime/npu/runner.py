"""One estimate graph, prepared in an interpreter of its own: views of its tensors, and invoke()."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from shadowattn.models.estimate_graphs import EstimateKey
from shadowattn.runtime.litert import interpreter as litert
from shadowattn.runtime.litert.nodes import NodeProbe
from shadowattn.runtime.npu.delegation import Delegation

_DELEGATE = "delegate"
_INPUTS, _OUTPUTS = ("q_i8", "k_i8"), ("scores_i8",)
_MULTIPLIER_TOLERANCE = 1e-6  # relative: three scales rounded to float32


@dataclasses.dataclass(frozen=True)
class EstimateTensors:
    """What a graph must look like. Shapes of q_i8, k_i8, scores_i8; multiplier = scale_q * scale_k / scale_scores."""

    shapes: Mapping[str, tuple[int, ...]]
    multiplier: float


@dataclasses.dataclass(frozen=True)
class RunnerSetup:
    """What all runners of an Estimator have in common. called: the choice's name; advice: what to do about a file that
    is not as it should be."""

    delegate: Any
    num_threads: int
    called: str
    advice: str

    @property
    def delegate_pointer(self) -> int:
        """0 without a delegate."""
        return 0 if self.delegate is None else litert.delegate_pointer(self.delegate)


class EstimateRunner:
    """scores_i8 = clamp(rint(q_i8 . k_i8^T * multiplier)), INT8. Made by Estimator.runner().

    The views are LiteRT's own memory, at the same place until close(), and another runner's are elsewhere. One thread
    at a time; invoke() lets other threads run Python.
    """

    def __init__(self, key: EstimateKey, content: bytes, tensors: EstimateTensors, setup: RunnerSetup) -> None:
        """Raises ValueError if the file is not that graph, RuntimeError if LiteRT or the delegate cannot prepare it."""
        self.key = key
        self.invokes = 0
        self.failures = 0
        start = time.perf_counter()
        self._setup = setup
        self._errors = litert.ErrorLog()
        self._open(content, tensors)
        self._graph: litert.GraphRunner | None = self._prepare()
        self._views = {**self._graph.inputs, **self._graph.outputs}
        self.delegation = Delegation(key.name, tuple(self._probe.nodes(self._subgraph)))
        self.prepare_seconds = time.perf_counter() - start

    @property
    def q_i8(self) -> np.ndarray:
        """int8 [units,rows,d]: write all of it here, it starts as it happens to."""
        return self._view("q_i8")

    @property
    def k_i8(self) -> np.ndarray:
        """int8 [units,S,d]: write all of it here, it starts as it happens to."""
        return self._view("k_i8")

    @property
    def scores_i8(self) -> np.ndarray:
        """int8 [units,rows,S], valid after invoke()."""
        return self._view("scores_i8")

    def invoke(self) -> None:
        """Raises RuntimeError with the graph's name and the delegate's message; the runner can be invoked again."""
        if self._graph is None:
            raise self._closed()
        self.invokes += 1
        try:
            self._graph.invoke()
        except RuntimeError:
            self.failures += 1
            raise

    def close(self) -> None:
        """The interpreter goes as soon as nobody has a view of its memory, and before its delegate."""
        self._views.clear()
        if self._graph is not None:
            self._graph.close()
            del self._setup, self._interpreter  # and with them the delegate
        self._graph = None

    def keep_for_ever(self) -> None:
        """For a forked child, where the threads of a delegate do not exist."""
        litert.keep_for_ever(self._native)
        litert.keep_for_ever(self._probe)

    def _open(self, content: bytes, tensors: EstimateTensors) -> None:
        name, setup = self.key.name, self._setup
        self._probe = NodeProbe(setup.delegate_pointer, _DELEGATE)
        try:
            self._interpreter = litert.open_interpreter(content, setup.num_threads, use_xnnpack=True)
            litert.outlive(self._interpreter, content, self._probe, setup.delegate)
            self._native.ModifyGraphWithDelegate(self._probe.pointer)
        except (ValueError, RuntimeError) as error:
            reason = litert.short(error)
            raise ValueError(f"{name}: LiteRT cannot open it ({reason}); {setup.advice}") from None
        signatures = self._native.GetSignatureDefs() or {}
        if list(signatures) != [name]:
            raise ValueError(f"{name}: wanted one signature of that name, got {sorted(signatures)}; {setup.advice}")
        self._definition = signatures[name]
        self._subgraph = int(self._native.GetSubgraphIndexFromSignature(name))
        self._check(tensors)

    def _check(self, tensors: EstimateTensors) -> None:
        name, advice = self.key.name, self._setup.advice
        scales = {}
        for side, wanted in (("inputs", _INPUTS), ("outputs", _OUTPUTS)):
            if set(self._definition[side]) != set(wanted):
                found = ", ".join(sorted(self._definition[side]))
                raise ValueError(f"{name}: wanted the {side} {', '.join(wanted)}, got {found}; {advice}")
            for tensor, index in self._definition[side].items():
                scales[tensor] = self._check_tensor(tensor, index, tensors.shapes[tensor])
        multiplier = scales["q_i8"] * scales["k_i8"] / scales["scores_i8"]
        if not abs(multiplier - tensors.multiplier) <= _MULTIPLIER_TOLERANCE * abs(tensors.multiplier):
            raise ValueError(
                f"{name}: its scales multiply by {multiplier:.9g}, the plan says {tensors.multiplier:.9g}; {advice}"
            )

    def _check_tensor(self, tensor: str, index: int, wanted: tuple[int, ...]) -> float:
        """The tensor's scale. Raises ValueError unless it is static INT8 of that shape, with one scale and no zero
        point."""
        native, subgraph = self._native, self._subgraph
        dtype = np.dtype(native.TensorType(index, subgraph))
        shape = tuple(int(size) for size in native.TensorSizeSignature(index, subgraph))
        if dtype != np.int8 or shape != wanted:
            raise ValueError(
                f"{self.key.name}: {tensor} must be int8 {list(wanted)}, got {dtype} {list(shape)}; "
                f"{self._setup.advice}"
            )
        scale, zero_point, *_ = native.TensorQuantizationParameters(index, subgraph)
        if len(scale) != 1 or not 0 < scale[0] < np.inf or zero_point.any():
            raise ValueError(
                f"{self.key.name}: {tensor} must have one positive scale and zero point 0, got scale {scale.tolist()}, "
                f"zero point {zero_point.tolist()}; {self._setup.advice}"
            )
        return float(scale[0])

    def _prepare(self) -> litert.GraphRunner:
        name, setup = self.key.name, self._setup
        if setup.delegate is not None:
            try:
                self._native.ModifyGraphWithDelegate(setup.delegate_pointer)
            except (ValueError, RuntimeError) as error:
                reason = self._errors.news(error)
                raise RuntimeError(f"{name}: {setup.called} could not prepare it: {reason}") from None
        try:
            return litert.GraphRunner(self._interpreter, self._errors, name, self._subgraph, self._definition)
        except RuntimeError as error:
            hint = "; give the delegate that runs it" if "unresolved custom op" in str(error) else ""
            raise RuntimeError(f"{error} (with {setup.called}){hint}") from None

    def _view(self, tensor: str) -> np.ndarray:
        if self._graph is None:
            raise self._closed()
        return self._views[tensor]

    def _closed(self) -> RuntimeError:
        return RuntimeError(f"{self.key.name}: this runner is closed; ask the Estimator of an open session for one")

    @property
    def _native(self):  # type: ignore[no-untyped-def]
        return self._interpreter._interpreter
