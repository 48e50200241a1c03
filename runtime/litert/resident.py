"""Gives memory back to the system: pages of a mapped model file that nobody reads any more, and freed heap.

XNNPACK copies weights when it packs them; the mapped originals then only make the process look large, once per
interpreter. The kernel keeps them as page cache as long as it likes, and they come back when read.
"""

import ctypes
import os
from pathlib import Path

_DONTNEED = 4  # MADV_DONTNEED of Linux: for a read-only file mapping it only drops this process's pages


def drop_pages(file: Path) -> int:
    """Drops the resident pages of every read-only mapping of `file` -> bytes of those mappings, 0 where not Linux."""
    name = str(file.resolve())
    try:
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    except OSError:
        return 0
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    dropped = 0
    for line in lines:
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == name and fields[1].startswith("r--"):
            start, end = (int(address, 16) for address in fields[0].split("-"))
            if libc.madvise(start, end - start, _DONTNEED) == 0:
                dropped += end - start
    return dropped


def resident_bytes() -> int | None:
    """Of this process, now; None where not Linux."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def trim_heap() -> None:
    """Returns freed heap to the system where the C library can (glibc). It would otherwise keep most of the freed
    weights for the next allocation."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
