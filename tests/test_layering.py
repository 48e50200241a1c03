"""Imports run one way: models <- converter, models <- runtime, and torch lives in the converter only. The includes of
the delegate's rooms run one way too (docs/architecture.md), as its build files say."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("models", "converter", "runtime")
ALLOWED_PARTS = {"models": {"models"}, "converter": {"models", "converter"}, "runtime": {"models", "runtime"}}
HEAVY = {"torch", "transformers", "litert_torch", "litert_converter", "gguf", "safetensors"}
SINGLE_IMPORTER = {
    "ai_edge_litert": {"runtime/litert/interpreter.py"},
    "litert_torch": {"converter/toolchain.py"},
}


def imported_modules(path: Path) -> set[str]:
    """Every module that a file imports, at any depth of the code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def sources(part: str) -> list[Path]:
    return sorted((ROOT / part).rglob("*.py"))


@pytest.mark.parametrize("part", PARTS)
def test_parts_import_only_what_lies_below(part: str) -> None:
    assert sources(part), f"no sources in {part}"
    for path in sources(part):
        for module in imported_modules(path):
            if module.startswith("shadowattn."):
                assert module.split(".")[1] in ALLOWED_PARTS[part], f"{path.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize("part", ["models", "converter"])
def test_no_module_imports_itself_through_others(part: str) -> None:
    """Imports within functions count too: a circle that is broken at run time is one to the reader."""
    names = {
        f"shadowattn.{path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.')}": path
        for path in sources(part)
    }
    graph = {name: imported_modules(path) & names.keys() for name, path in names.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the circle


@pytest.mark.parametrize("part", ["models", "runtime"])
def test_torch_stays_in_the_converter(part: str) -> None:
    for path in sources(part):
        wrong = {module.split(".")[0] for module in imported_modules(path)} & HEAVY
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_models_need_nothing_but_numpy() -> None:
    import sys

    for path in sources("models"):
        roots = {module.split(".")[0] for module in imported_modules(path)}
        extra = roots - set(sys.stdlib_module_names) - {"numpy", "shadowattn"}
        assert not extra, f"{path.relative_to(ROOT)} imports {extra}"


@pytest.mark.parametrize(("library", "files"), SINGLE_IMPORTER.items())
def test_one_place_knows_a_toolchain_library(library: str, files: set[str]) -> None:
    part = next(iter(files)).split("/")[0]
    for path in sources(part):
        if library in {module.split(".")[0] for module in imported_modules(path)}:
            assert str(path.relative_to(ROOT)) in files, f"{path.relative_to(ROOT)} imports {library}"


def test_the_check_itself_sees_a_wrong_import(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def f():\n    from shadowattn.converter import convert\n    import torch\n")
    assert {"shadowattn.converter", "torch"} <= imported_modules(wrong)


DELEGATE = ROOT / "delegate"
# What each room includes from beside itself. A room also includes from whatever these include from.
ROOMS = {
    "kernels": set(),
    "base": {"kernels"},
    "config": {"base"},
    "observe": {"config"},
    "cache": {"observe"},
    "attention": {"cache"},
    "baselines": {"attention"},
    "estimate": {"cache"},
    "engine": {"attention", "baselines", "estimate"},
    "tflite": {"engine"},
    "abi": {"tflite"},
}


def below(room: str) -> set[str]:
    """Every room that `room` may include from."""
    return ROOMS[room].union(*(below(next_room) for next_room in ROOMS[room]))


def included_rooms(text: str) -> set[str]:
    return {path.split("/")[0] for path in re.findall(r'^#include "([^"]+)"', text, re.MULTILINE)}


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_of_the_delegate_include_only_what_lies_below(room: str) -> None:
    files = sorted(path for path in (DELEGATE / room).rglob("*") if path.suffix in {".h", ".cc", ".inc"})
    assert files, f"no sources in delegate/{room}"
    for path in files:
        wrong = included_rooms(path.read_text("utf-8")) - below(room) - {room}
        assert not wrong, f"{path.relative_to(ROOT)} includes from {wrong}"


def test_every_folder_of_the_delegate_is_a_room() -> None:
    folders = {path.parent.name for path in DELEGATE.glob("*/CMakeLists.txt")}
    assert folders == ROOMS.keys() | {"tests"}


@pytest.mark.parametrize("room", ROOMS.keys() - {"kernels"})
def test_build_files_link_the_rooms_that_are_included_from(room: str) -> None:
    cmake = (DELEGATE / room / "CMakeLists.txt").read_text("utf-8")
    assert set(re.findall(r"shadow_(\w+)", cmake)) & ROOMS.keys() - {room} == ROOMS[room]
    bazel = (DELEGATE / room / "BUILD").read_text("utf-8")
    assert set(re.findall(r'"//delegate/(\w+)', bazel)) == ROOMS[room]


def test_the_check_of_rooms_sees_a_wrong_include() -> None:
    assert included_rooms('#include <map>\n#include "engine/engine.h"\n  // "abi/x.h"\n') == {"engine"}
    assert below("cache") == {"observe", "config", "base", "kernels"}
