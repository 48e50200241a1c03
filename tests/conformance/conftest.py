"""Tiny models of the rows about weights, made once per test run."""

from pathlib import Path

import pytest
from tiny_models import make_model


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("whole") / "model", "llama").path


@pytest.fixture(scope="session")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tied") / "model", "llama_linear_mha_tied").path


@pytest.fixture(scope="session")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_model(tmp_path_factory.mktemp("sharded") / "model", "llama", max_shard_size="250KB").path
    assert len(list(folder.glob("model-*.safetensors"))) > 3
    return folder
