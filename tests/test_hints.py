"""What messages tell people to type is typed here: flags, subcommands, pip, cmake and hf."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from shadowattn.runtime import cli
from shadowattn.runtime.commands.doctor import PACKAGES
from shadowattn.runtime.commands.failures import install_command, reinstall_command

ROOT = Path(__file__).resolve().parent.parent
OTHERS = {"--build", "--force-reinstall", "--no-deps"}  # of cmake and pip
OUR_OWN = {"--version", "--FLAGS", "--noNAME"}  # of no subcommand; stand-ins in explanations


def literals() -> Iterator[tuple[Path, str]]:
    """Every string of the package's code, pieces of f-strings included."""
    for part in ("models", "converter", "runtime"):
        for path in sorted((ROOT / part).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield path, node.value


def pip(command: str) -> subprocess.CompletedProcess[str]:
    """`pip install ...` without network or change: whether it is met by what is installed here."""
    program, verb, *arguments = shlex.split(command)
    assert (program, verb) == ("pip", "install")
    arguments = [argument for argument in arguments if argument != "--force-reinstall"]  # which would need an index
    line = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps", *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_flag_in_a_message_is_one() -> None:
    known = {f"--{name}" for entry in cli.find_commands().values() for name in cli.command_flags(entry.load())}
    for path, text in literals():
        for flag in re.findall(r"(?<![\w-])--[a-zA-Z][\w-]*", text):
            name = flag.replace("-", "_").replace("__", "--", 1)
            negated = name.replace("--no", "--", 1)
            assert {flag, name, negated} & (known | OTHERS | OUR_OWN), f"{path}: {flag} in {text!r}"


def test_every_command_in_a_message_can_be_typed() -> None:
    found = set()
    for _, text in literals():
        found.update(re.findall(r"`shadowattn ([a-z_]+)((?: --[\w=.]+)*)`", text))
    assert {name for name, _ in found} >= {"convert", "doctor", "profile", "calibrate"}
    for name, flags in found - {("help", ""), ("version", "")}:
        assert name in cli.find_commands(), name
        cli.command_flags(cli.find_commands()[name].load())([name, *flags.split()])


def test_no_command_in_a_message_is_left_out() -> None:
    """Whatever stands in backticks and reads like a command line is typed by a test, or is of a program that is not
    ours and not Python's (git lfs)."""
    ours = re.compile(r"shadowattn (NAME|COMMAND|[a-z_]+)?((?: ?--[\w=.]+)*)")
    typed = {"hf auth login", "gguf-convert-endian COPY little", "git lfs pull"}
    found = {
        command
        for path, text in literals()
        for command in re.findall(
            r"`((?:shadowattn|hf|git|gguf-[\w-]+|pip|python|cmake|make|apt|npm|curl) [^`]*)`", text
        )
    }
    assert typed <= found
    assert {command for command in found - typed if not ours.fullmatch(command)} == set()


def test_the_tool_that_turns_a_file_around_is_installed() -> None:
    """tests/conformance/test_gguf_files.py turns one around with it."""
    assert (Path(sys.executable).parent / "gguf-convert-endian").exists()


def test_pip_commands_are_understood_and_name_real_packages() -> None:
    commands = {line for _, text in literals() for line in re.findall(r"pip install [a-z][\w=.-]*\w", text)}
    commands |= {f"pip install {name}=={metadata.version(name)}" for name in PACKAGES}
    assert "pip install matplotlib" in commands
    for command in sorted(commands):
        done = pip(command)
        assert done.returncode == 0, f"{command}: {done.stderr}"


@pytest.mark.parametrize("extra", [None, "chat", "converter", "plots"])
def test_an_extra_is_installed_by_its_packages(monkeypatch: pytest.MonkeyPatch, extra: str | None) -> None:
    """shadowattn itself may be on no index, so its name must not be in the command."""
    lines = requirements()
    monkeypatch.setattr(metadata, "requires", lambda name: lines)
    command = install_command(extra)
    assert "shadowattn" not in command
    assert len(shlex.split(command)) > 2
    done = pip(command)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def requirements() -> list[str]:
    """As the metadata of a wheel has them."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].items()
    return [*project["dependencies"], *(f'{need}; extra == "{name}"' for name, needs in extras for need in needs)]


def test_what_installs_this_package_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class FromFile:
        version = "1.2"

        def read_text(self, name: str) -> str | None:
            return '{"url": "file:///some%20where/x.whl"}' if name == "direct_url.json" else None

    class FromIndex(FromFile):
        def read_text(self, name: str) -> None:
            return None

    for distribution, what in ((FromFile(), "file:///some%20where/x.whl"), (FromIndex(), "shadowattn==1.2")):
        monkeypatch.setattr(metadata, "distribution", lambda name, found=distribution: found)
        assert shlex.split(reinstall_command())[-1] == what

    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    monkeypatch.setattr(metadata, "requires", absent)
    assert (reinstall_command(), install_command("chat")) == ("pip install .", "pip install '.[chat]'")


def test_the_version_that_the_converter_names_is_the_pinned_one() -> None:
    text = (ROOT / "converter" / "export.py").read_text("utf-8")
    named = re.findall(r"pip install (litert-torch==[\d.]+)\)", text)
    assert named
    assert f'"{named[0]}",' in (ROOT / "pyproject.toml").read_text("utf-8")


def cmake(*arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    program = shutil.which("cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert program, "cmake is of the extra test"
    return subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, env=environ, check=False)


def test_the_delegate_is_configured_as_the_hint_says(tmp_path: Path) -> None:
    hints = {
        line
        for _, text in literals()
        for line in re.findall(r"cmake -S delegate -B build/delegate && cmake --build", text)
    }
    assert hints
    done = cmake("-S", "delegate", "-B", str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_a_missing_compiler(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name not in ("CXX", "PATH")}
    done = cmake("-S", "delegate", "-B", str(tmp_path), "-DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF",
                 environ=environ | {"PATH": str(tmp_path)})  # fmt: skip
    assert done.returncode == 1
    assert "no C++ compiler found: install one" in " ".join(done.stderr.split())
    assert done.stderr.count("CMake Error") == 1


def test_the_hub_login_exists() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "hf", "auth", "login", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
