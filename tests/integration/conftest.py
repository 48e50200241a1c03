"""SmolLM2 as bundles, converted once for all tests that want them."""

from pathlib import Path

import pytest
from smollm2 import load_demo


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    return load_demo().find_model()


@pytest.fixture(scope="session")
def float_bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _convert(checkpoint, tmp_path_factory.mktemp("smollm2") / "float32", "float32")


@pytest.fixture(scope="session")
def int8_bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _convert(checkpoint, tmp_path_factory.mktemp("smollm2") / "int8", "int8")


def _convert(checkpoint: Path, output: Path, weights: str) -> Path:
    from shadowattn.converter import convert

    convert(checkpoint, output, weights=weights)
    return output
