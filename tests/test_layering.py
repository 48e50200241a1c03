"""Imports run one way: models <- converter, models <- runtime, and torch lives in the converter only."""

import ast
import graphlib
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
