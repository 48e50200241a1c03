"""Who runs each node: reads TFLite's execution plan after every delegate has had its turn.

The Python interpreter lists nodes of subgraph 0 only. NodeProbe is a delegate that claims nothing: TFLite shows it each
subgraph once, and it keeps the two functions that read the execution plan. Called later, they tell what XNNPACK and
ours have replaced. The structs are the head of TFLite's C ABI (tensorflow/lite/core/c/common.h).
"""

import ctypes
import dataclasses

FULLY_CONNECTED = 9
CUSTOM = 32
DELEGATE = 51
BATCH_MATMUL = 126
XNNPACK = "xnnpack"
BUILTIN = "litert builtin"
_XNNPACK_DELEGATE = b"TfLiteXNNPackDelegate"
_ALLOW_DYNAMIC_TENSORS = 1


@dataclasses.dataclass(frozen=True)
class Node:
    """One node of the file. custom_name: of a custom op, else empty. runner: shadow, xnnpack, litert builtin, or what
    the probe was told to call its delegate."""

    index: int
    builtin_code: int
    custom_name: str
    runner: str

    @property
    def must_be_ours(self) -> bool:
        return self.custom_name.startswith("Shadow")

    @property
    def must_be_xnnpack(self) -> bool:
        return self.builtin_code in (FULLY_CONNECTED, BATCH_MATMUL)

    @property
    def on_host(self) -> bool:
        """LiteRT itself runs it, on the CPU."""
        return self.runner in (XNNPACK, BUILTIN)


class _IntArray(ctypes.Structure):
    _fields_ = [("size", ctypes.c_int)]

    def values(self) -> list[int]:
        first = ctypes.addressof(self) + ctypes.sizeof(ctypes.c_int)
        return list((ctypes.c_int * self.size).from_address(first))


class _Registration(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("init", "free", "prepare", "invoke", "profiling_string")),
        ("builtin_code", ctypes.c_int32),
        ("custom_name", ctypes.c_char_p),
    ]


class _TfLiteNode(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("inputs", "outputs", "intermediates", "temporaries", "user_data")),
        ("builtin_data", ctypes.c_void_p),
        ("custom_initial_data", ctypes.c_void_p),
        ("custom_initial_data_size", ctypes.c_int),
        ("delegate", ctypes.c_void_p),
    ]


class _DelegateParams(ctypes.Structure):
    _fields_ = [
        ("delegate", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in ("nodes_to_replace", "input_tensors", "output_tensors")),
    ]


class _OpaqueDelegateParams(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("delegate", "delegate_data")),
        *((name, ctypes.c_void_p) for name in ("nodes_to_replace", "input_tensors", "output_tensors")),
    ]


_GetPlan = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.POINTER(_IntArray)))
_GetNode = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.POINTER(ctypes.POINTER(_TfLiteNode)),
    ctypes.POINTER(ctypes.POINTER(_Registration)),
)


class _Context(ctypes.Structure):
    _fields_ = [
        ("tensors_size", ctypes.c_size_t),
        ("get_execution_plan", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in ("tensors", "impl", "resize_tensor", "report_error", "add_tensors")),
        ("get_node_and_registration", ctypes.c_void_p),
    ]


_Prepare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _Delegate(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("prepare", _Prepare),
        *((name, ctypes.c_void_p) for name in ("copy_from", "copy_to", "free_buffer")),
        ("flags", ctypes.c_int64),
        ("opaque", ctypes.c_void_p),
    ]


class NodeProbe:
    """Pass `pointer` to ModifyGraphWithDelegate once, right after the interpreter was made, and outlive it."""

    def __init__(self, delegate_pointer: int, called: str = "shadow") -> None:
        """called: the runner's name in `nodes` for what this delegate has taken."""
        self._pointer = delegate_pointer
        self._called = called
        self._subgraphs: list[tuple[int, int, int]] = []
        self._callback = _Prepare(self._on_prepare)
        self._delegate = _Delegate(prepare=self._callback, flags=_ALLOW_DYNAMIC_TENSORS)

    @property
    def pointer(self) -> int:
        return ctypes.addressof(self._delegate)

    @property
    def num_subgraphs(self) -> int:
        """How many subgraphs TFLite has shown."""
        return len(self._subgraphs)

    def nodes(self, subgraph: int) -> list[Node]:
        """The file's nodes of a subgraph, in the file's order. The interpreter must be alive."""
        context, get_plan, get_node = self._subgraphs[subgraph]
        plan = ctypes.POINTER(_IntArray)()
        _ok(_GetPlan(get_plan)(context, ctypes.byref(plan)))
        found = []
        for index in plan.contents.values():
            node, registration = self._read(context, get_node, index)
            if not node.delegate:
                found.append(_describe(index, registration, BUILTIN))
                continue
            runner = self._runner(node, registration)
            for replaced in _replaced_by(node.builtin_data):
                found.append(_describe(replaced, self._read(context, get_node, replaced)[1], runner))
        return sorted(found, key=lambda node: node.index)

    def _on_prepare(self, context: int, _delegate: int) -> int:
        head = _Context.from_address(context)
        self._subgraphs.append((context, head.get_execution_plan, head.get_node_and_registration))
        return 0

    def _runner(self, node: _TfLiteNode, registration: _Registration) -> str:
        if node.delegate == self._pointer:
            return self._called
        name = registration.custom_name or b"another delegate"
        return XNNPACK if name == _XNNPACK_DELEGATE else name.decode()

    @staticmethod
    def _read(context: int, get_node: int, index: int) -> tuple[_TfLiteNode, _Registration]:
        node = ctypes.POINTER(_TfLiteNode)()
        registration = ctypes.POINTER(_Registration)()
        _ok(_GetNode(get_node)(context, index, ctypes.byref(node), ctypes.byref(registration)))
        return node.contents, registration.contents


def _replaced_by(params: int) -> list[int]:
    """Nodes of the file that a delegate's node stands for. params: address of its TfLiteDelegateParams, or of the
    TfLiteOpaqueDelegateParams that delegates of the opaque interface get; TFLite puts the list right behind either."""
    for layout in (_DelegateParams, _OpaqueDelegateParams):
        behind = params + ctypes.sizeof(layout)
        if layout.from_address(params).nodes_to_replace == behind:
            return _IntArray.from_address(behind).values()
    raise RuntimeError("LiteRT keeps a delegate's nodes in another form than ai-edge-litert 2.3.0; install that")


def _describe(index: int, registration: _Registration, runner: str) -> Node:
    custom = registration.builtin_code == CUSTOM and registration.custom_name
    return Node(index, registration.builtin_code, custom.decode() if custom else "", runner)


def _ok(status: int) -> None:
    if status != 0:
        raise RuntimeError("LiteRT did not give its execution plan")
