"""Texts in files: UTF-8, without what editors add. Errors name the file."""

from pathlib import Path


def read_text(path: Path) -> str:
    """Without a byte order mark. Raises ValueError that names the file, OSError."""
    return decode(str(path), path.read_bytes())


def read_prompt(path: Path) -> str:
    """Also without one newline at the end. Raises ValueError that names the file, OSError."""
    return decode_prompt(str(path), path.read_bytes())


def decode(where: str, data: bytes) -> str:
    """Raises ValueError that says where the bytes are from."""
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 text (byte {error.start}); convert it, for example with iconv") from None


def decode_prompt(where: str, data: bytes) -> str:
    """As decode(), without one newline at the end."""
    return decode(where, data).removesuffix("\n").removesuffix("\r")
