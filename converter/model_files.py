"""Files of a model as downloads leave them: links that lead nowhere, Git LFS pointers, files that are missing."""

import os
from pathlib import Path

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def check_file(path: Path, missing: str = "") -> None:
    """The file is there, can be opened, and is the file itself. Raises ValueError; missing: why it should be there."""
    refuse_dangling(path)
    if not path.is_file():
        raise ValueError(f"{path}: the file is missing{missing}; get the model's files again")
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS_POINTER))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if start == _LFS_POINTER:
        raise ValueError(f"{path}: a Git LFS pointer, not the file itself; run `git lfs pull` in its folder")


def refuse_dangling(path: Path) -> None:
    """Raises ValueError for a link to nothing, as an interrupted download leaves it in the Hugging Face cache."""
    if path.is_symlink() and not path.exists():
        raise ValueError(f"{path}: a link to {os.readlink(path)}, which is not there; download the model again")
