"""The hook in conftest.py: which skips fail a run."""

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OFF = ("-p", "no:cacheprovider", "-p", "no:warnings")
TESTS = """
import pytest

def test_allowed(): pytest.skip("one CPU only")

def test_called(): pytest.skip("the delegate does not load")

@pytest.mark.skip
def test_marked(): pass

@pytest.mark.skipif(True, reason="so it is")
def test_conditional(): pass

@pytest.fixture
def broken(): pytest.skip("from a fixture")

def test_fixture(broken): pass
"""


def outcome(folder: Path, tests: str) -> str:
    for name in ("conftest.py", "allowed_skips.txt"):
        shutil.copy(HERE / name, folder)
    (folder / "test_some.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-ra", *OFF, "--rootdir=.", "-c", "/dev/null"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def test_only_listed_reasons_skip(tmp_path: Path) -> None:
    out = outcome(tmp_path, TESTS)
    assert "1 failed, 1 skipped, 3 errors" in out
    assert "SKIPPED [1] test_some.py:4: one CPU only" in out
    for kind, name in (("FAILED", "called"), ("ERROR", "marked"), ("ERROR", "conditional"), ("ERROR", "fixture")):
        assert f"{kind} test_some.py::test_{name} - " in out
    assert "allowed_skips.txt does not list: the delegate does not load" in out


def test_a_module_that_skips_itself(tmp_path: Path) -> None:
    out = outcome(tmp_path, "import pytest\npytest.importorskip('nowhere')\n")
    assert "ERROR test_some.py" in out
    assert "allowed_skips.txt does not list: could not import 'nowhere'" in out
