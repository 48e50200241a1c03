"""The test delegate (delegate/tests/claiming_delegate.cc): built with the system's compiler, and its counters."""

import contextlib
import ctypes
import dataclasses
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

DELEGATE = Path(__file__).resolve().parents[2] / "delegate"
SOURCE = DELEGATE / "tests" / "claiming_delegate.cc"


@dataclasses.dataclass(frozen=True)
class ClaimingLibrary:
    """The library's path, and what it counts over the whole process."""

    path: Path

    def npu(self, options: str = "") -> str:
        """A value of --npu."""
        return f"delegate:{self.path}" + (f"?{options}" if options else "")

    @property
    def alive(self) -> int:
        """Delegates that were created and not yet destroyed."""
        return self._count("claiming_delegates_alive")

    @property
    def closed_early(self) -> int:
        """Delegates that were destroyed before their nodes."""
        return self._count("claiming_closed_early")

    @contextlib.contextmanager
    def held_invokes(self) -> Iterator[Callable[[], bool]]:
        """Invokes wait until the block ends. What is yielded waits for one: whether one came within a minute."""
        library = ctypes.CDLL(str(self.path))
        library.claiming_hold_invokes.argtypes = [ctypes.c_int64]
        library.claiming_hold_invokes(1)
        try:
            yield lambda: self._count("claiming_await_held_invoke") == 1
        finally:
            library.claiming_hold_invokes(0)

    def _count(self, name: str) -> int:
        function = getattr(ctypes.CDLL(str(self.path)), name)
        function.restype = ctypes.c_int64
        return function()


def build_claiming_library(folder: Path) -> ClaimingLibrary:
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        raise RuntimeError("no C++ compiler here (c++ on the path, or $CXX): the test delegate cannot be built")
    path = folder / "libclaiming_delegate.so"
    flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-fvisibility=hidden", "-shared", "-fPIC", "-pthread"]
    subprocess.run([*compiler.split(), *flags, "-I", str(DELEGATE), str(SOURCE), "-o", str(path)], check=True)
    return ClaimingLibrary(path)
