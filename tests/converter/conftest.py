"""Fixtures of the converter's tests: tiny models and the bundles made of them, once per test run."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import CHUNK, TinyModel, make_model

from shadowattn.converter.pipeline import convert


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TinyModel]:
    """Family name -> its tiny model, made once."""
    made: dict[str, TinyModel] = {}

    def get(family: str) -> TinyModel:
        if family not in made:
            made[family] = make_model(tmp_path_factory.mktemp(family) / "model", family)
        return made[family]

    return get


@pytest.fixture(scope="session")
def tiny_bundle(
    tiny: Callable[[str], TinyModel], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[TinyModel, Path]]:
    """(family, weights) -> its tiny model and the bundle made of it, once; chunk lengths 1 and CHUNK."""
    made: dict[tuple[str, str], Path] = {}

    def get(family: str, weights: str = "float32") -> tuple[TinyModel, Path]:
        model = tiny(family)
        key = (family, weights)
        if key not in made:
            output = tmp_path_factory.mktemp("bundles") / f"{family}.bundle"
            made[key] = convert(model.path, output, weights=weights, prefill_chunks=(CHUNK,), progress=io.StringIO())
        return model, made[key]

    return get


@pytest.fixture
def new_model(tmp_path: Path) -> Callable[..., TinyModel]:
    """Makes a model of one's own: (family, changes of its config) -> TinyModel in a fresh folder."""

    def make(family: str = "llama", **changes: Any) -> TinyModel:
        return make_model(tmp_path / "model", family, **changes)

    return make
