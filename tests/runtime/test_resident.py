"""Pages of a mapped file can be let go, and come back with the same content."""

import mmap
from pathlib import Path

from shadowattn.runtime.litert.resident import drop_pages

SIZE = 16 << 20


def _file_bytes() -> int:
    """Resident bytes of this process that come from files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))


def test_drops_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "with a blank.bin"
    path.write_bytes(bytes(range(256)) * (SIZE // 256))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        before = _file_bytes()
        total = sum(mapped[::4096])
        read = _file_bytes()
        assert read - before > SIZE // 2
        assert drop_pages(path) == SIZE
        assert read - _file_bytes() > SIZE // 2
        assert sum(mapped[::4096]) == total


def test_a_file_nobody_maps(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert drop_pages(tmp_path / "file") == 0
