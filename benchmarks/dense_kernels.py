"""Dense causal attention of other libraries, in the forms that are fastest there, as far as they are installed."""

import importlib
from collections.abc import Callable

import numpy as np
from attention_kernel import Kernel
from onnxruntime_attention import OnnxRuntimeKernel
from openvino_attention import OpenVinoKernel
from recorded import Rows
from torch_attention import TorchKernel


def dense_kernels(num_threads: int) -> tuple[list[Kernel], dict[str, str]]:
    """Every kernel that runs here, and by name why others do not."""
    found: list[Kernel] = []
    skipped: dict[str, str] = {}
    for library, make in _MAKERS.items():
        try:
            made = make(num_threads)
        except ImportError as error:
            skipped[library] = f"not importable ({error})"
            continue
        for kernel in made:
            if reason := why_not(kernel):
                skipped[kernel.name] = reason
            else:
                found.append(kernel)
    return found, skipped


def why_not(kernel: Kernel) -> str:
    """Tries it on a few rows: a library may lack a number type at an instruction set. Empty: it runs."""
    wide, narrow = np.zeros((8, 4, 64), np.float32), np.zeros((8, 2, 64), np.float32)
    rows = Rows(0, wide, narrow, narrow, 0.125)
    try:
        kernel.prefill(rows).run()
        kernel.decode(rows, 1).run()
    except Exception as error:  # whatever the library raises
        return f"does not run here ({' '.join(str(error).split())[:160]})"
    return ""


def _torch_kernels(num_threads: int) -> list[Kernel]:
    importlib.import_module("torch").set_num_threads(num_threads)  # gemm_peaks.py multiplies with torch, too
    forms = [(dtype, repeated) for dtype in ("float32", "bfloat16") for repeated in (True, False)]
    return [TorchKernel(dtype, repeated, num_threads) for dtype, repeated in forms]


def _openvino_kernels(num_threads: int) -> list[Kernel]:
    return [OpenVinoKernel(precision, num_threads) for precision in ("f32", "bf16")]


_MAKERS: dict[str, Callable[[int], list[Kernel]]] = {
    "torch": _torch_kernels,
    "onnxruntime": lambda num_threads: [OnnxRuntimeKernel(num_threads)],
    "openvino": _openvino_kernels,
}
