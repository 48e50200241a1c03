"""SmolLM2-135M-Instruct for tests: the checkpoint, its bundles (converted once per test run), and texts."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent.parent


def load_demo() -> ModuleType:
    """examples/demo.py as a module: the tests use the demo's model and prompt."""
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo"] = module
    spec.loader.exec_module(module)
    return module


def held_out_text() -> str:
    """Prose and code that nothing is calibrated or tuned on: the source of the standard library's decimal."""
    import _pydecimal

    return Path(_pydecimal.__file__).read_text("utf-8")
