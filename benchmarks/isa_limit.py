"""Holds this process, and every process it starts, to some cores and an instruction set, whatever library asks.

Call restrict() before numpy, torch or any other numeric library is imported: they look at the machine once.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Sequence

from machine import cpu_flags

ISAS = ("auto", "avx2", "avx512", "avx512vnni")  # of the delegate; auto leaves the machine as it is

# Per level what oneDNN (in torch, OpenVINO), MKL and torch itself may use at most. BF16 beside VNNI: Zen 4 has both.
# ONNX Runtime knows no such limit: below avx512vnni it uses more than the others.
_LIBRARY_LIMITS = {
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "avx512vnni": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

# Linux on x86-64: <asm/unistd_64.h>, <asm/prctl.h>, <linux/prctl.h>, <linux/seccomp.h>, <linux/audit.h>
_SYS_ARCH_PRCTL, _SYS_SECCOMP = 158, 317
_ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA = 0x1023, 18
_PR_SET_NO_NEW_PRIVS, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 38, 1, 1
_AUDIT_ARCH_X86_64 = 0xC000003E
_ALLOW, _REFUSE_EPERM = 0x7FFF0000, 0x00050001
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_DATA_NR, _DATA_ARCH, _DATA_ARG0 = 0, 4, 16  # offsets in struct seccomp_data


def usual_isa() -> str:
    """The level that figures are for where none is named: the widest vectors of this machine. AMX is left out, because
    few machines have it."""
    flags = cpu_flags()
    for flag, isa in (("avx512_vnni", "avx512vnni"), ("avx512f", "avx512"), ("avx2", "avx2")):
        if flag in flags:
            return isa
    return "auto"


def restrict(num_threads: int, isa: str, cores: Sequence[int]) -> str:
    """Pins the process to `cores`, tells libraries to use num_threads, refuses what goes beyond `isa`; returns in words
    what was done. Raises ValueError for a level that cannot be held to here."""
    os.sched_setaffinity(0, set(cores))
    for name in _THREAD_VARIABLES:
        os.environ[name] = str(num_threads)
    if isa == "auto":
        return "the machine as it is"
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise ValueError(f"--isa={isa}: AMX can be refused on Linux on x86-64 only; use --isa=auto")
    os.environ.update(_LIBRARY_LIMITS[isa])
    refuse_amx()
    limits = ", ".join(f"{name}={value}" for name, value in _LIBRARY_LIMITS[isa].items())
    return f"AMX refused to every library by a seccomp filter; {limits}"


def refuse_amx() -> None:
    """From now on the kernel refuses permission for AMX tiles to this process and its children. Raises ValueError."""
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    code = (_Instruction * len(_FILTER))(*(_Instruction(*line) for line in _FILTER))
    program = _Program(len(_FILTER), code)
    library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # TSYNC: threads that exist already are held to it, too
    failed = library.syscall(
        ctypes.c_long(_SYS_SECCOMP),
        ctypes.c_long(_SECCOMP_SET_MODE_FILTER),
        ctypes.c_long(_SECCOMP_FILTER_FLAG_TSYNC),
        ctypes.byref(program),
    )
    if failed:
        reason = os.strerror(ctypes.get_errno())
        raise ValueError(f"the kernel takes no seccomp filter ({reason}), so AMX cannot be refused; use --isa=auto")
    if may_use_amx():
        raise ValueError("AMX was refused and can be had all the same: another library asked first; use --isa=auto")


def may_use_amx() -> bool:
    """Asks the kernel for AMX tiles. Where it agrees, the process has them from then on."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return False
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    asked = (_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA)
    return int(library.syscall(*(ctypes.c_long(number) for number in asked))) == 0


class _Instruction(ctypes.Structure):
    """struct sock_filter."""

    _fields_ = [
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    ]


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction))]


# arch_prctl(ARCH_REQ_XCOMP_PERM, ...) of an x86-64 program fails with EPERM, everything else passes. Jumps count the
# instructions to leave out.
_FILTER = (
    (_LOAD_WORD, 0, 0, _DATA_ARCH),
    (_JUMP_IF_EQUAL, 0, 5, _AUDIT_ARCH_X86_64),
    (_LOAD_WORD, 0, 0, _DATA_NR),
    (_JUMP_IF_EQUAL, 0, 3, _SYS_ARCH_PRCTL),
    (_LOAD_WORD, 0, 0, _DATA_ARG0),
    (_JUMP_IF_EQUAL, 0, 1, _ARCH_REQ_XCOMP_PERM),
    (_RETURN, 0, 0, _REFUSE_EPERM),
    (_RETURN, 0, 0, _ALLOW),
)
