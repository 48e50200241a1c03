"""A folder written aside and renamed when it is whole: killed at any moment, it leaves the finished bundle or nothing.

The work happens in `.<name>.partial-*` beside the output, locked by its owner; folders whose owner is gone are
removed by the next run. A bundle is recognised by its manifest, which is written last.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from shadowattn.models.bundle import MANIFEST

_LOCK_SUFFIX = ".lock"
_REPLACED_SUFFIX = ".replaced"


def check_output(output: Path, overwrite: bool) -> None:
    """Raises ValueError if `output` is in the way, or its folder is missing or not writable."""
    parent = output.resolve().parent
    if not parent.is_dir():
        raise ValueError(f"{output}: the folder {parent} does not exist; create it first")
    if not os.access(parent, os.W_OK):
        raise ValueError(f"{output}: no permission to write in {parent}; choose another output")
    if not os.path.lexists(output):
        return
    if not overwrite:
        raise ValueError(f"{output}: already exists; choose another output or pass --overwrite")
    if not (output / MANIFEST).is_file():
        raise ValueError(f"{output}: exists and is not a bundle, so it is not overwritten; choose another output")


@contextlib.contextmanager
def written_aside(output: Path) -> Iterator[Path]:
    """Yields an empty folder that becomes `output` when the block ends without an exception, and is removed otherwise.

    A full disk ends in one ValueError.
    """
    output = output.resolve()
    remove_leftovers(output)
    folder = output.parent / f"{_prefix(output)}{secrets.token_hex(4)}"
    lock_path = _lock_of(folder)
    with lock_path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            folder.mkdir()
            yield folder
            _publish(folder, output)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise ValueError(
                    f"{output}: the disk became full while writing; nothing was kept, free some space and convert again"
                ) from error
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock_path.unlink(missing_ok=True)


def remove_leftovers(output: Path) -> None:
    """Removes what killed runs left: the folders whose lock nobody holds. A bundle they were replacing is put back."""
    for lock_path in output.parent.glob(f"{_prefix(output)}*{_LOCK_SUFFIX}"):
        folder = lock_path.with_name(lock_path.name.removesuffix(_LOCK_SUFFIX))
        with lock_path.open("r+") as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _replaced(folder).exists() and not output.exists():
                _replaced(folder).rename(output)
            for leftover in (folder, _replaced(folder)):
                shutil.rmtree(leftover, ignore_errors=True)
            lock_path.unlink(missing_ok=True)


def _prefix(output: Path) -> str:
    return f".{output.name}.partial-"


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK_SUFFIX)


def _replaced(folder: Path) -> Path:
    """Where the bundle goes that `folder` replaces, until the new one is in its place."""
    return folder.with_name(folder.name + _REPLACED_SUFFIX)


def _publish(folder: Path, output: Path) -> None:
    """Flushes every file to disk, then renames."""
    for path in (*folder.iterdir(), folder):
        _flush(path)
    if output.exists():
        output.rename(_replaced(folder))
    folder.rename(output)
    _flush(output.parent)
    shutil.rmtree(_replaced(folder), ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
