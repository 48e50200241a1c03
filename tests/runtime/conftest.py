"""Fixtures of the runtime's tests: one tiny bundle per test run, its NumPy oracle, and the test delegate."""

from pathlib import Path

import numpy as np
import pytest
from claiming import ClaimingLibrary, build_claiming_library
from tiny_bundle import tiny_decoder, write_tiny_bundle
from tiny_decoder import TinyDecoder

from shadowattn.models.bundle import read_manifest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle nobody may change: 2 layers, 4 query heads, 2 KV heads, chunks 4 and 16, 256 positions."""
    path = tmp_path_factory.mktemp("tiny") / "bundle"
    write_tiny_bundle(path)
    return path


@pytest.fixture(scope="session")
def oracle(tiny: Path) -> TinyDecoder:
    return tiny_decoder(read_manifest(tiny))


@pytest.fixture(scope="session")
def text(tiny: Path) -> list[int]:
    """200 random token ids of the tiny vocabulary (seed 7)."""
    return np.random.default_rng(7).integers(0, read_manifest(tiny).model.vocab_size, 200).tolist()


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6 query heads on 3 KV heads: launches of 1, 2, 4 and 6 heads."""
    path = tmp_path_factory.mktemp("wide") / "bundle"
    write_tiny_bundle(path, num_heads=6, num_kv_heads=3, head_dim=12, seed=3)
    return path


@pytest.fixture(scope="session")
def claiming(tmp_path_factory: pytest.TempPathFactory) -> ClaimingLibrary:
    """The test delegate for estimate graphs, compiled once."""
    return build_claiming_library(tmp_path_factory.mktemp("claiming"))
