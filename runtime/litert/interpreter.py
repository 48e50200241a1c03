"""The only importer of ai_edge_litert: loads the delegate, opens interpreters, runs signatures without copies.

SignatureRunner resizes and copies at every call, so signatures are run through the interpreter's subgraph interface
(AllocateTensors(subgraph), Invoke(subgraph), numpy views of tensors), which the Interpreter object keeps private.
"""

import contextlib
import ctypes
import functools
import os
import re
import tempfile
import warnings
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Delegate, Interpreter, OpResolverType

from shadowattn.models.bundle import Graph, Manifest
from shadowattn.runtime.litert.nodes import Node, NodeProbe
from shadowattn.runtime.litert.resident import drop_pages

_ONE_OP = Path(__file__).with_name("probe.tflite")
_DTYPES = {np.float32: "float32", np.int32: "int32", np.int8: "int8"}


class _Plugin(Delegate):
    """Where creation failed, LiteRT's own destructor passes NULL to the library, which not every library survives."""

    def __del__(self) -> None:
        if getattr(self, "_delegate_ptr", None):
            super().__del__()


def load_delegate(library: Path | str, options: Mapping[str, object]) -> Delegate:
    """Creates an external delegate. A name without a slash is the system's loader's to find.

    Raises ValueError: no such library, not a delegate, or the delegate's message.
    """
    try:
        exported = ctypes.PyDLL(str(library))
    except OSError as error:
        raise ValueError(f"{library}: cannot be loaded ({error}); wanted a library built for this machine") from None
    for symbol in ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate"):
        if not hasattr(exported, symbol):
            raise ValueError(f"{library}: is not an external delegate, it lacks {symbol}; give a delegate's library")
    try:
        return _Plugin(str(library), {key: str(value) for key, value in options.items()})
    except ValueError as error:
        reason = str(error).strip() or "no reason given"
        raise ValueError(f"{library}: delegate refused its options: {reason}") from None


@functools.cache
def keep_infos_off_stderr() -> None:
    """LiteRT tells standard error once per process what it is ("INFO: Created TensorFlow Lite XNNPACK delegate for
    CPU."), and has no setting for that. So it tells it here, of a model of one op, into a file; whatever else comes
    meanwhile, warnings and errors of any thread, goes on to standard error."""
    try:
        saved = os.dup(2)
    except OSError:  # nothing to drop
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            _apply_xnnpack_once()
        finally:
            os.dup2(saved, 2)
            os.close(saved)
        file.seek(0)
        os.write(2, b"".join(line for line in file if not line.startswith(b"INFO: ")))


def _apply_xnnpack_once() -> None:
    interpreter = Interpreter(model_path=str(_ONE_OP), num_threads=1)
    with contextlib.suppress(RuntimeError):  # XNNPACK is applied by now; the op is our delegate's, which is not here
        interpreter._interpreter.AllocateTensors(0)


def open_interpreter(model: Path | bytes, num_threads: int, use_xnnpack: bool) -> Interpreter:
    """An interpreter of any file or of its bytes, with no delegate but XNNPACK. Raises ValueError or RuntimeError, as
    LiteRT does. Bytes must outlive it, see outlive()."""
    resolver = OpResolverType.AUTO if use_xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    source = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
    return Interpreter(**source, num_threads=num_threads, experimental_op_resolver_type=resolver)


def outlive(interpreter: Interpreter, *things: object) -> None:
    """The things live until the native interpreter is gone, which a view of a tensor (in a traceback, say) keeps."""
    weakref.finalize(interpreter._interpreter, _let_go, *things).atexit = False


def open_graph(content: bytes, signature: str, num_threads: int) -> "GraphRunner":
    """The signature of a model file's bytes, prepared for this CPU. Raises ValueError or RuntimeError."""
    try:
        interpreter = Interpreter(model_content=content, num_threads=num_threads)
        native = interpreter._interpreter
        definition = native.GetSignatureDefs()[signature]
        subgraph = native.GetSubgraphIndexFromSignature(signature)
    except (ValueError, RuntimeError, KeyError) as error:
        raise ValueError(f"{signature}: LiteRT cannot open it ({short(error)}); convert the model again") from None
    return GraphRunner(interpreter, ErrorLog(), signature, subgraph, definition)


def delegate_pointer(delegate: Delegate) -> int:
    """The TfLiteDelegate*."""
    return int(delegate._get_native_delegate_pointer())


def keep_alive(thing: object) -> None:
    """Its destructor never runs, not even at interpreter exit."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


class ErrorLog:
    """LiteRT's error buffer of one interpreter. It only grows: every exception brings all earlier messages again."""

    def __init__(self) -> None:
        self._seen = ""

    def news(self, error: Exception) -> str:
        """What the latest exception adds, in one line. Call it for every exception of the interpreter."""
        text = str(error)
        added = text.removeprefix(self._seen)
        self._seen = text
        return short(added if added.strip() else text)


class GraphSet:
    """One interpreter of a model file, in which some of its signatures can run.

    Memory: XNNPACK packs the weights of all of them when the first is prepared; of other signatures of the file nothing
    is packed, because the delegate claims them (docs/op_spec.md, `signatures`). LiteRT applies XNNPACK to all subgraphs
    when the first of any is allocated, which here is the first runner(). Not thread-safe: the engine locks.
    """

    def __init__(self, model: Path, delegate: Delegate, num_threads: int) -> None:
        """The delegate must have been told the set's signatures before. Raises ValueError."""
        self._runners: dict[str, GraphRunner] = {}
        self._model = model
        self._delegate = delegate
        self._probe = NodeProbe(delegate_pointer(delegate))
        self._errors = ErrorLog()
        try:
            self._interpreter = Interpreter(
                model_path=str(model), experimental_delegates=[delegate], num_threads=num_threads
            )
            self._native.ModifyGraphWithDelegate(self._probe.pointer)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{model}: LiteRT cannot open it ({short(error)}); convert the model again") from None
        self._signatures = self._native.GetSignatureDefs()

    @property
    def _native(self):  # type: ignore[no-untyped-def]
        return self._interpreter._interpreter

    def check(self, manifest: Manifest, where: str) -> None:
        """Every graph of the manifest is a signature of the file with those tensors. Raises ValueError."""
        for graph in manifest.graphs:
            if graph.signature not in self._signatures:
                raise ValueError(f"{where}: lacks the signature {graph.signature!r} of the manifest; convert again")
            for side, wanted in (("inputs", graph.inputs), ("outputs", graph.outputs)):
                found = self._tensors(graph, side)
                stated = {name: (info.dtype, info.shape) for name, info in wanted.items()}
                if found != stated:
                    raise ValueError(
                        f"{where}: {side} of {graph.signature!r} are {found}, the manifest says {stated}; convert again"
                    )

    def runner(self, signature: str) -> "GraphRunner":
        """The signature, prepared at first use. Raises RuntimeError if LiteRT cannot prepare it."""
        if signature not in self._runners:
            definition = self._signatures[signature]
            subgraph = self._native.GetSubgraphIndexFromSignature(signature)
            for other in self._runners.values():
                other.forget_views()
            runner = GraphRunner(self._interpreter, self._errors, signature, subgraph, definition)
            if not self._runners:  # XNNPACK has just packed its copies
                drop_pages(self._model)
            check_runners(signature, self._probe.nodes(subgraph))
            self._runners[signature] = runner
        return self._runners[signature]

    def nodes(self) -> dict[str, list[Node]]:
        """Nodes of every signature that was prepared."""
        return {name: self._probe.nodes(runner.subgraph) for name, runner in self._runners.items()}

    def close(self) -> None:
        """Destroys the interpreter; while a view of its tensors is alive (in a traceback, say) it lives on, and its
        delegates with it."""
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()
        outlive(self._interpreter, self._delegate, self._probe)
        del self._interpreter

    def keep_alive(self) -> None:
        """For a forked child: the interpreter's threads are not there to be joined."""
        keep_alive(self._native)
        keep_alive(self._probe)

    def _tensors(self, graph: Graph, side: str) -> dict[str, tuple[str, tuple[int, ...]]]:
        subgraph = self._native.GetSubgraphIndexFromSignature(graph.signature)
        return {
            name: (
                _DTYPES.get(self._native.TensorType(index, subgraph), "another type"),
                tuple(self._native.TensorSize(index, subgraph).tolist()),
            )
            for name, index in self._signatures[graph.signature][side].items()
        }


class GraphRunner:
    """One prepared signature. `inputs` and `outputs` are numpy views of LiteRT's own memory, by name.

    Never keep a view beyond the next call of the engine: preparing another signature of the same interpreter may move
    the memory, so the views are made anew after that.
    """

    def __init__(
        self,
        interpreter: Interpreter,
        errors: ErrorLog,
        signature: str,
        subgraph: int,
        definition: Mapping[str, Mapping[str, int]],
    ) -> None:
        self.signature = signature
        self.subgraph = subgraph
        self._interpreter = interpreter
        self._errors = errors
        self._definition = definition
        self._views: dict[str, dict[str, np.ndarray]] = {}
        try:
            interpreter._interpreter.AllocateTensors(subgraph)
        except (RuntimeError, ValueError) as error:
            raise RuntimeError(f"{signature}: LiteRT could not prepare it: {errors.news(error)}") from None

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        return self._side("inputs")

    @property
    def outputs(self) -> dict[str, np.ndarray]:
        return self._side("outputs")

    def invoke(self) -> None:
        """Runs the graph. Raises RuntimeError with the delegate's message."""
        try:
            self._interpreter._interpreter.Invoke(self.subgraph)
        except (RuntimeError, ValueError) as error:
            raise RuntimeError(f"{self.signature}: {self._errors.news(error)}") from None

    def forget_views(self) -> None:
        self._views.clear()

    def close(self) -> None:
        """Lets go of the interpreter."""
        self._views.clear()
        self._interpreter = None

    def _side(self, side: str) -> dict[str, np.ndarray]:
        if side not in self._views:
            native = self._interpreter._interpreter
            tensors = self._definition[side].items()
            self._views[side] = {name: native.tensor(native, index, self.subgraph) for name, index in tensors}
        return self._views[side]


def check_runners(signature: str, nodes: Sequence[Node]) -> None:
    """Raises RuntimeError if a Shadow op is not ours, warns if a matrix product is not under XNNPACK."""
    for node in nodes:
        if node.must_be_ours and node.runner != "shadow":
            raise RuntimeError(f"{signature}: node {node.index} {node.custom_name} is run by {node.runner}, not by us")
    slow = [node for node in nodes if node.must_be_xnnpack and node.runner != "xnnpack"]
    if slow:
        warnings.warn(
            f"{signature}: {len(slow)} matrix products (first: node {slow[0].index}) are run by {slow[0].runner}, "
            "not by XNNPACK, which is many times slower; see Session.node_assignments()",
            RuntimeWarning,
            stacklevel=2,
        )


def _let_go(*_: object) -> None:
    """Called with the last references to what an interpreter used, after the interpreter is gone."""


def op_name(node: Node) -> str:
    """FULLY_CONNECTED, ShadowSparseAttention, ..."""
    return node.custom_name or _builtin_names().get(node.builtin_code, f"builtin {node.builtin_code}")


@functools.cache
def _builtin_names() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated  # a large module that only listings need

    operators = vars(schema_py_generated.BuiltinOperator).items()
    return {value: name for name, value in operators if isinstance(value, int)}


def short(error: Exception | str) -> str:
    """LiteRT's message in one line, without its end that only says which node failed."""
    text = " ".join(str(error).split())
    return re.split(r"\.?\s*Node number \d+ \(", text)[0] or text
