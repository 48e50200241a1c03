"""The estimate graphs of one bundle: opened and prepared when a prompt first needs them, on the chosen NPU or the host.

estimator = Estimator(NpuChoice.parse("delegate:libvendor.so?backend=htp"), bundle, model, {0: multiplier})
runner = estimator.runner(EstimateKey(256, 4096, 3), slot=0)
runner.q_i8[...], runner.k_i8[...] = q, k
runner.invoke()  # runner.scores_i8

A node that a delegate took is the delegate's: whether its driver computes it on an NPU cannot be seen from here.
"""

import os
import threading
import time
import warnings
import weakref
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shadowattn.models.estimate_graphs import FILE_NAME, EstimateKey
from shadowattn.models.spec import ModelSpec
from shadowattn.runtime.litert import interpreter as litert
from shadowattn.runtime.litert.nodes import Node, NodeProbe
from shadowattn.runtime.pipeline.options import ExternalDelegate, NpuChoice

_SUFFIX = ".tflite"
_INPUTS, _OUTPUTS = ("q_i8", "k_i8"), ("scores_i8",)
_MULTIPLIER_TOLERANCE = 1e-6  # relative: three scales rounded to float32


class EstimateRunner:
    """scores_i8 = clamp(rint(q_i8 . k_i8^T * multiplier)), INT8, by one graph in an interpreter of its own.

    q_i8 [units,rows,d] and k_i8 [units,S,d], of which all is to be written, and scores_i8 [units,rows,S], valid after
    invoke(), are views of LiteRT's own memory: at the same place until close(), and another runner's are elsewhere. One
    thread at a time; invoke() lets other threads run Python. nodes: of the graph. Made by Estimator.runner().
    """

    def __init__(self, key: EstimateKey, content: bytes, choice: NpuChoice, delegate: Any) -> None:
        """check() comes next, then prepare(). Raises ValueError if the file is not a graph of that name."""
        self.key = key
        self.invokes = self.failures = 0
        self._began = time.perf_counter()
        self._choice = choice
        self._delegate = delegate
        self._pointer = 0 if delegate is None else litert.delegate_pointer(delegate)
        self._graph: litert.GraphRunner | None = None
        self._errors = litert.ErrorLog()
        self._probe = NodeProbe(self._pointer, "delegate")
        try:
            self._interpreter = litert.open_interpreter(content, num_threads=1, use_xnnpack=True)  # a core of its own
            litert.outlive(self._interpreter, content, self._probe, delegate)
            self._native.ModifyGraphWithDelegate(self._probe.pointer)
        except (ValueError, RuntimeError) as error:
            raise self._misfit(f"LiteRT cannot open it ({litert.short(error)})") from None
        signatures = self._native.GetSignatureDefs() or {}
        if list(signatures) != [key.name]:
            raise self._misfit(f"wanted one signature of that name, got {sorted(signatures)}")
        self._definition = signatures[key.name]
        self._subgraph = int(self._native.GetSubgraphIndexFromSignature(key.name))

    def check(self, shapes: Sequence[tuple[int, ...]], wanted: float) -> None:
        """shapes: of q_i8, k_i8, scores_i8; wanted: scale_q * scale_k / scale_scores. Raises ValueError."""
        scales = {}
        for side, names in (("inputs", _INPUTS), ("outputs", _OUTPUTS)):
            if set(self._definition[side]) != set(names):
                found = ", ".join(sorted(self._definition[side]))
                raise self._misfit(f"wanted the {side} {', '.join(names)}, got {found}")
        for tensor, shape in zip((*_INPUTS, *_OUTPUTS), shapes, strict=True):
            index = {**self._definition["inputs"], **self._definition["outputs"]}[tensor]
            scales[tensor] = self._check_tensor(tensor, index, shape)
        multiplier = scales["q_i8"] * scales["k_i8"] / scales["scores_i8"]
        if not abs(multiplier - wanted) <= _MULTIPLIER_TOLERANCE * abs(wanted):
            raise self._misfit(f"its scales multiply by {multiplier:.9g}, the plan says {wanted:.9g}")

    def prepare(self) -> None:
        """Raises RuntimeError if LiteRT or the delegate cannot prepare it."""
        name = self._choice.name
        try:
            if self._delegate is not None:
                self._native.ModifyGraphWithDelegate(self._pointer)
        except (ValueError, RuntimeError) as error:
            reason = self._errors.news(error)
            raise RuntimeError(f"{self.key.name}: {name} could not prepare it: {reason}") from None
        graph = (self.key.name, self._subgraph, self._definition)
        try:
            self._graph = litert.GraphRunner(self._interpreter, self._errors, *graph)
        except RuntimeError as error:
            hint = "; give the delegate that runs it" if "unresolved custom op" in str(error) else ""
            raise RuntimeError(f"{error} (with {name}){hint}") from None
        self.q_i8, self.k_i8 = (self._graph.inputs[name] for name in _INPUTS)
        self.scores_i8 = self._graph.outputs["scores_i8"]
        self.nodes = tuple(self._probe.nodes(self._subgraph))
        self.prepare_seconds = time.perf_counter() - self._began

    def invoke(self) -> None:
        """Raises RuntimeError with the graph's name and the delegate's message; the runner can be invoked again."""
        if self._graph is None:
            raise RuntimeError(f"{self.key.name}: this runner is closed; ask the Estimator of an open session for one")
        self.invokes += 1
        try:
            self._graph.invoke()
        except RuntimeError:
            self.failures += 1
            raise

    def close(self) -> None:
        """The interpreter goes as soon as nobody has a view of its memory, and before its delegate."""
        if self._graph is not None:
            self._graph.close()
            del self._delegate, self._interpreter, self.q_i8, self.k_i8, self.scores_i8
        self._graph = None

    def keep_alive(self) -> None:
        """For a forked child, where the threads of a delegate do not exist."""
        litert.keep_alive(self._native)
        litert.keep_alive(self._probe)

    def _check_tensor(self, tensor: str, index: int, wanted: tuple[int, ...]) -> float:
        """The tensor's scale. Raises ValueError unless it is static INT8 of that shape, with one scale and no zero
        point."""
        dtype = np.dtype(self._native.TensorType(index, self._subgraph))
        shape = tuple(int(size) for size in self._native.TensorSizeSignature(index, self._subgraph))
        if dtype != np.int8 or shape != wanted:
            raise self._misfit(f"{tensor} must be int8 {list(wanted)}, got {dtype} {list(shape)}")
        scale, zero, *_ = self._native.TensorQuantizationParameters(index, self._subgraph)
        if len(scale) != 1 or not 0 < scale[0] < np.inf or zero.any():
            found = f"scale {scale.tolist()}, zero point {zero.tolist()}"
            raise self._misfit(f"{tensor} must have one positive scale and zero point 0, got {found}")
        return float(scale[0])

    def _misfit(self, what: str) -> ValueError:
        return ValueError(f"{self.key.name}: {what}; {self._choice.advice}")

    @property
    def _native(self):  # type: ignore[no-untyped-def]
        return self._interpreter._interpreter


class Estimator:
    """Prepares and keeps the runners of one choice. The delegate is loaded once, shared by all, and destroyed last.

    keys: the graphs there are, in order. runner() may be called from any thread; a runner belongs to one at a time.
    """

    def __init__(self, choice: NpuChoice, bundle: Path, model: ModelSpec, multipliers: Mapping[int, float]) -> None:
        """multipliers: bucket -> scale_q * scale_k / scale_scores of its graphs, the bundle plan's.

        Raises ValueError: no graphs, or the delegate cannot be loaded or created.
        """
        self._choice = choice
        self._model = model
        self._multipliers = dict(multipliers)
        self._lock = threading.RLock()
        self._runners: dict[tuple[EstimateKey, int], EstimateRunner] = {}
        self._delegate = None if choice.delegate is None else _load(choice.delegate)
        self._archive = EstimateArchive(choice.blobs or bundle / FILE_NAME, choice.advice)
        self.keys = self._archive.keys
        # Also at exit, and when it was forgotten; the delegate follows with the last reference to it.
        self._closer = weakref.finalize(self, _close, self._runners, self._archive)

    def runner(self, key: EstimateKey, slot: int = 0) -> EstimateRunner:
        """The graph's runner number `slot`, prepared at first use; slots share no memory.

        Raises ValueError if the file lacks the graph or holds another one; RuntimeError if it cannot be prepared, or
        the choice requires the NPU and a node is left to the host. Warns (RuntimeWarning) of such nodes otherwise.
        """
        with self._lock:
            if not self._closer.alive:
                raise RuntimeError("this Estimator is closed; open a session again")
            if (key, slot) not in self._runners:
                self._runners[key, slot] = self._prepared(key)
            return self._runners[key, slot]

    def nodes(self) -> dict[str, Sequence[Node]]:
        """Nodes of every graph that was prepared, with who runs them."""
        with self._lock:
            return {runner.key.name: runner.nodes for runner in self._runners.values()}

    def report(self, prefix: str = "") -> list[dict[str, Any]]:
        """A row per graph that was prepared, of those whose name begins so. slots: its interpreters, which prepare_ms,
        invokes and failures add up; delegated: taken, partly or not at all, None where host INT8 is what was asked for;
        on_host: the nodes that run as host INT8, and whose kernels run them."""
        found: dict[EstimateKey, list[EstimateRunner]] = {}
        with self._lock:
            for (key, _), runner in sorted(self._runners.items(), key=lambda item: item[0]):
                if key.name.startswith(prefix):
                    found.setdefault(key, []).append(runner)
        rows = []
        for key, runners in found.items():
            nodes = runners[0].nodes
            taken = None if self._choice.on_host else delegated(nodes)
            row = {"graph": key.name, "slots": len(runners), "nodes": len(nodes), "delegated": taken}
            row |= {"on_host": left_in_words(nodes), "prepare_ms": 1e3 * sum(one.prepare_seconds for one in runners)}
            rows.append(row | {name: sum(getattr(one, name) for one in runners) for name in ("invokes", "failures")})
        return rows

    def close(self) -> None:
        """Interpreters first, then the delegate. A view that somebody still holds stays valid and keeps both."""
        with self._lock:
            self._closer()
            self._delegate = None

    def abandon(self) -> None:
        """In a forked child: nothing is ever destroyed, for the delegate's threads do not exist here."""
        self._lock = threading.RLock()  # the parent may have held the other
        self._closer.detach()
        litert.keep_alive(self._delegate)
        for runner in self._runners.values():
            runner.keep_alive()

    def _prepared(self, key: EstimateKey) -> EstimateRunner:
        if key.bucket not in self._multipliers:
            known = ", ".join(map(str, sorted(self._multipliers)))
            raise ValueError(f"{key.name}: no scales are known for bucket {key.bucket}, only for {known}")
        shapes = key.shapes(self._model)
        runner = EstimateRunner(key, self._archive.read(key), self._choice, self._delegate)
        runner.check(shapes, self._multipliers[key.bucket])
        runner.prepare()
        try:
            if not any(known == key for known, _ in self._runners):  # once per graph, not per slot
                check_delegated(key.name, runner.nodes, self._choice)
        except BaseException:
            runner.close()
            raise
        return runner


class EstimateArchive:
    """estimates.zip, or a file like it: a model file for each graph, stored uncompressed. keys: of its graphs."""

    def __init__(self, path: Path, advice: str) -> None:
        """advice: what to do about a file that is not as it should be. Raises ValueError if it is missing or not a zip,
        or holds no estimate graph."""
        self._path = path
        self._advice = advice
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise ValueError(f"{path}: there is no such file, so there are no estimate graphs; {advice}") from None
        except (OSError, zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not a readable zip ({error}); {advice}") from None
        self.keys = sorted(key for name in self._zip.namelist() if (key := _key(name)))
        if not self.keys:
            self._zip.close()
            raise ValueError(f"{path}: holds no estimate_<T>_<S>_<heads>_<bucket>{_SUFFIX}; {advice}")

    def read(self, key: EstimateKey) -> bytes:
        """The model file of a graph. Raises ValueError: it is missing, damaged, or compressed."""
        name = key.name + _SUFFIX
        if key not in self.keys:
            fields = ("chunk", "seq_len", "heads", "bucket")
            there = {field: sorted({getattr(key, field) for key in self.keys}) for field in fields}
            listed = ", ".join(f"{field} {', '.join(map(str, values))}" for field, values in there.items())
            raise ValueError(f"{self._path}: lacks {key.name}; its graphs are of {listed}; {self._advice}")
        entry = self._zip.getinfo(name)
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{self._path}: {name} is compressed, wanted it stored; {self._advice}")
        try:
            return self._zip.read(entry)
        except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, NotImplementedError) as error:
            raise ValueError(f"{self._path}: {name} is damaged ({error}); {self._advice}") from None

    def close(self) -> None:
        self._zip.close()


def _key(name: str) -> EstimateKey | None:
    """None for other files of the zip."""
    try:
        return EstimateKey.parse(name.removesuffix(_SUFFIX)) if name.endswith(_SUFFIX) else None
    except ValueError:
        return None


def _load(delegate: ExternalDelegate) -> Any:
    """Raises ValueError."""
    path = Path(delegate.library)
    if os.path.exists(path):  # unlike Path.exists(), False for a name that is too long
        return litert.load_delegate(path.resolve(), dict(delegate.options))
    if "/" in delegate.library:
        raise ValueError(f"{path}: there is no such file; give --npu=delegate:PATH the path of the delegate's library")
    return litert.load_delegate(delegate.library, dict(delegate.options))


def _close(runners: dict[tuple[EstimateKey, int], EstimateRunner], archive: EstimateArchive) -> None:
    for runner in runners.values():
        runner.close()
    archive.close()


def delegated(nodes: Sequence[Node]) -> str:
    """How many of a graph's nodes its delegate runs."""
    left = sum(node.on_host for node in nodes)
    return "not at all" if left == len(nodes) else "partly" if left else "taken"


def left_in_words(nodes: Sequence[Node]) -> str:
    """`node 0 BATCH_MATMUL (xnnpack), ...` of those that LiteRT runs on the CPU; empty if all were taken."""
    return ", ".join(f"node {node.index} {litert.op_name(node)} ({node.runner})" for node in nodes if node.on_host)


def check_delegated(graph: str, nodes: Sequence[Node], choice: NpuChoice) -> None:
    """Warns of what is not as it was asked for; RuntimeError where the choice requires the NPU.

    On the host the graph belongs to XNNPACK: LiteRT's builtin kernels are many times slower.
    """
    left = sum(node.on_host for node in nodes)
    if choice.on_host:
        litert.check_runners(graph, nodes)
    elif left:
        verb = "run" if left > 1 else "runs"
        nodes_left = f"{left_in_words(nodes)} {verb} on the CPU as host INT8"
        finding = f"{graph}: {choice.name}: {delegated(nodes)}: {nodes_left}"
        if choice.require:
            advice = "see the delegate's log, or do without require_npu"
            raise RuntimeError(f"{finding}, which require_npu forbids; {advice}")
        warnings.warn(finding, RuntimeWarning, stacklevel=2)
