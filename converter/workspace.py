"""A folder written aside and renamed when it is whole: killed at any moment, it leaves the finished bundle or nothing.

The work happens in `.<name>.partial-*` beside the output, locked by its owner; folders whose owner is gone are
removed by the next run. A bundle is recognised by its manifest, which is written last.
"""

import contextlib
import errno
import fcntl
import glob
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from shadowattn.models.bundle import FORMAT, MANIFEST

_LOCK_SUFFIX = ".lock"
_REPLACED_SUFFIX = ".replaced"
_IN_THE_WAY = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)


def check_output(output: Path, overwrite: bool) -> None:
    """Raises ValueError if `output` is in the way, or its folder is missing or not writable.

    Puts back a bundle that a killed run was replacing, so that it is seen. `overwrite` replaces bundles only.
    """
    parent = output.resolve().parent
    if not parent.is_dir():
        raise ValueError(f"{output}: the folder {parent} does not exist; create it first")
    if not os.access(parent, os.W_OK):
        raise ValueError(f"{output}: no permission to write in {parent}; choose another output")
    remove_leftovers(output.resolve())
    if not os.path.lexists(output):
        return
    if not overwrite:
        raise ValueError(f"{output}: already exists; choose another output or pass --overwrite")
    _check_replaceable(output)


@contextlib.contextmanager
def written_aside(output: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty folder that becomes `output` when the block ends without an exception, and is removed otherwise.

    Without `overwrite`, an output that appeared meanwhile is kept and ends in a ValueError, as a full disk does.
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
            _publish(folder, output, overwrite)
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
    for folder in _folders_aside(output):
        lock_path = _lock_of(folder)
        with lock_path.open("a") as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _put_back(folder, output)
            for leftover in (folder, _replaced(folder)):
                shutil.rmtree(leftover, ignore_errors=True)
            lock_path.unlink(missing_ok=True)


def _folders_aside(output: Path) -> list[Path]:
    """The working folders of this output, whether the folder, its lock or the bundle it replaces is there."""
    name = re.compile(
        f"({re.escape(_prefix(output))}[0-9a-f]+)({re.escape(_LOCK_SUFFIX)}|{re.escape(_REPLACED_SUFFIX)})?"
    )
    found = (name.fullmatch(path.name) for path in output.parent.glob(f"{glob.escape(_prefix(output))}*"))
    return [output.parent / folder for folder in sorted({match.group(1) for match in found if match})]


def _check_replaceable(output: Path) -> None:
    """Raises ValueError unless `output` is a bundle and holds nothing but what its manifest lists."""
    listed = _files_of_bundle(output / MANIFEST)
    if listed is None:
        raise ValueError(
            f"{output}: exists and is not a bundle, so it is not overwritten (wanted a {MANIFEST} of format {FORMAT}); "
            "choose another output"
        )
    others = sorted(path.name for path in output.iterdir() if path.name not in {MANIFEST, *listed})
    if others:
        raise ValueError(
            f"{output}: the bundle's folder also holds {others[0]}, which {MANIFEST} does not list, so it is not "
            "overwritten; move that away or choose another output"
        )


def _files_of_bundle(manifest: Path) -> list[str] | None:
    """The files that a bundle's manifest lists; None if this is no manifest of a bundle."""
    try:
        content = json.loads(manifest.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("files"), dict):
        return None
    return list(content["files"])


def _prefix(output: Path) -> str:
    return f".{output.name}.partial-"


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK_SUFFIX)


def _replaced(folder: Path) -> Path:
    """Where the bundle goes that `folder` replaces, until the new one is in its place."""
    return folder.with_name(folder.name + _REPLACED_SUFFIX)


def _publish(folder: Path, output: Path, overwrite: bool) -> None:
    """Flushes every file to disk, then renames; whatever interrupts the renames, the old bundle is put back."""
    for path in (*folder.iterdir(), folder):
        _flush(path)
    try:
        if os.path.lexists(output):
            if not overwrite:
                raise FileExistsError(errno.EEXIST, "appeared meanwhile", str(output))
            _check_replaceable(output)
            output.rename(_replaced(folder))
        folder.rename(output)
    except OSError as error:
        if error.errno not in _IN_THE_WAY:
            raise
        raise ValueError(
            f"{output}: appeared while the conversion ran, and is kept; nothing was written, "
            "convert again to another output or pass --overwrite"
        ) from error
    finally:
        _put_back(folder, output)
    _flush(output.parent)
    shutil.rmtree(_replaced(folder), ignore_errors=True)


def _put_back(folder: Path, output: Path) -> None:
    """Restores the bundle that `folder` was replacing, if nothing took its place."""
    if _replaced(folder).exists() and not os.path.lexists(output):
        _replaced(folder).rename(output)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
