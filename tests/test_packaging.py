"""What pip installs is what the tree holds: every module, the typing markers, and the delegate."""

import importlib.resources
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def installed_files() -> set[str]:
    try:
        return {str(file) for file in metadata.files("shadowattn") or []}
    except metadata.PackageNotFoundError:
        pytest.skip("shadowattn is not installed here: `make test` installs it")


def test_every_module_is_in_the_wheel() -> None:
    files = installed_files()
    for part in ("models", "converter", "runtime"):
        for path in (ROOT / part).rglob("*"):
            if path.suffix in (".py", ".tflite", ".json") or path.name == "py.typed":
                assert f"shadowattn/{path.relative_to(ROOT)}" in files


def test_no_folder_of_the_tree_becomes_an_import() -> None:
    tops = {file.split("/")[0] for file in installed_files() if not file.startswith("..")}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"shadowattn"}


def test_the_delegate_is_installed() -> None:
    installed_files()
    assert importlib.resources.files("shadowattn.delegate").joinpath("libshadow_delegate.so").is_file()


def test_runtime_does_not_load_torch() -> None:
    code = "import sys, shadowattn.runtime.session.session, shadowattn.runtime.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd="/", check=False).returncode == 0
