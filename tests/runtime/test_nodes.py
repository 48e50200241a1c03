"""Reading what a delegate's node stands for, in both forms that TFLite gives delegates."""

import ctypes

import pytest

from shadowattn.runtime.litert.nodes import Node, _replaced_by


def params(num_pointers: int, nodes: list[int], offset: int = 0) -> ctypes.Array:
    """Delegate parameters as TFLite allocates them: pointers, the third from the end to the list that follows."""
    size = num_pointers * 8
    block = ctypes.create_string_buffer(size + 64)
    address = ctypes.addressof(block)
    pointers = (ctypes.c_void_p * num_pointers).from_buffer(block)
    pointers[0] = 0xDEAD0
    pointers[num_pointers - 3] = address + size + offset
    (ctypes.c_int * (1 + len(nodes))).from_buffer(block, size)[:] = [len(nodes), *nodes]
    return block


@pytest.mark.parametrize("num_pointers", [4, 5], ids=["TfLiteDelegateParams", "TfLiteOpaqueDelegateParams"])
@pytest.mark.parametrize("nodes", [[], [0], [3, 1, 7]])
def test_both_forms(num_pointers: int, nodes: list[int]) -> None:
    block = params(num_pointers, nodes)
    assert _replaced_by(ctypes.addressof(block)) == nodes


def test_a_form_nobody_knows_is_no_crash() -> None:
    block = params(4, [1], offset=8)
    with pytest.raises(RuntimeError, match="in another form than ai-edge-litert"):
        _replaced_by(ctypes.addressof(block))


@pytest.mark.parametrize(
    ("runner", "on_host"), [("xnnpack", True), ("litert builtin", True), ("delegate", False), ("QnnDelegate", False)]
)
def test_the_host_is_litert_itself(runner: str, on_host: bool) -> None:
    assert Node(0, 126, "", runner).on_host is on_host
