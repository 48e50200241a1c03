"""What pip installs is what the tree holds: every module, the typing marker, the version, and the delegate."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("models", "converter", "runtime")
OF_EVERY_LINUX = {  # that manylinux allows, PEP 600
    "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
}  # fmt: skip


def installed_files() -> set[str]:
    try:
        return {str(file) for file in metadata.files("shadowattn") or []}
    except metadata.PackageNotFoundError:
        pytest.skip("shadowattn is not installed here: `make test` installs it")


def test_every_module_is_in_the_wheel() -> None:
    files = installed_files()
    for folder, package in (*((part, f"shadowattn/{part}") for part in PARTS), ("src/shadowattn", "shadowattn")):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".tflite", ".json") or path.name == "py.typed":
                assert f"{package}/{path.relative_to(ROOT / folder)}" in files


def test_no_folder_of_the_tree_becomes_an_import() -> None:
    tops = {file.split("/")[0] for file in installed_files() if not file.startswith("..")}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"shadowattn"}


def test_the_delegate_is_installed() -> None:
    assert "shadowattn/delegate/libshadow_delegate.so" in installed_files()
    code = "from shadowattn.runtime.litert.delegate import library_path; print(library_path())"
    environment = {name: value for name, value in os.environ.items() if name != "SHADOWATTN_DELEGATE"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", env=environment, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).parts[-2:] == ("delegate", "libshadow_delegate.so")


def test_the_version_is_the_packages() -> None:
    installed_files()
    code = "import shadowattn; print(shadowattn.__version__)"
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == metadata.version("shadowattn")


def test_runtime_does_not_load_torch() -> None:
    code = "import sys, shadowattn.runtime.session.session, shadowattn.runtime.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd="/", check=False).returncode == 0


def test_the_wheel_is_for_any_python_3() -> None:
    installed_files()
    text = metadata.distribution("shadowattn").read_text("WHEEL") or ""
    tags = [line.removeprefix("Tag: ") for line in text.splitlines() if line.startswith("Tag: ")]
    assert tags
    assert all(tag.startswith("py3-none-") for tag in tags)


def test_the_delegate_brings_its_own_cpp_library() -> None:
    """Or it would ask for the libstdc++ of the machine that built it, or a newer one."""
    data = delegate_bytes()
    assert b"libc.so.6" in data
    assert b"libstdc++.so" not in data
    assert b"libgcc_s.so" not in data


def test_the_delegate_asks_for_no_newer_glibc_than_the_docs_say() -> None:
    """Every symbol version that it wants is of the manylinux platform that docs/building.md names, and every library
    that it loads is of that platform. A machine with a newer glibc builds for its own."""
    text = (ROOT / "docs" / "building.md").read_text("utf-8")
    named = re.search(r"manylinux_(\d+)_(\d+)_x86_64", text)
    assert named
    documented = (int(named[1]), int(named[2]))
    own = tuple(map(int, os.confstr("CS_GNU_LIBC_VERSION").removeprefix("glibc ").split(".")[:2]))
    data = delegate_bytes()
    wanted = {(int(major), int(minor)) for major, minor in re.findall(rb"GLIBC_(\d+)\.(\d+)", data)}
    assert wanted
    assert max(wanted) <= max(documented, own)
    loaded = {name.decode() for name in re.findall(rb"\0((?:lib|ld-)[\w+-]+\.so\.\d+)(?=\0)", data)}
    assert "libc.so.6" in loaded
    assert loaded <= OF_EVERY_LINUX


def delegate_bytes() -> bytes:
    files = {str(file): file for file in metadata.files("shadowattn") or []} if installed_files() else {}
    return Path(str(files["shadowattn/delegate/libshadow_delegate.so"].locate())).read_bytes()
