"""Names and shapes of estimate graphs."""

import pytest

from shadowattn.models.estimate_graphs import EstimateKey
from shadowattn.models.spec import ModelSpec, RopeSpec

SPEC = ModelSpec("llama", 49152, 576, 1536, 30, 9, 3, 64, 1e-5, RopeSpec(1e4), 8192, True)


def test_names_and_keys_go_both_ways() -> None:
    key = EstimateKey(256, 4096, 3, 7)
    assert key.name == "estimate_256_4096_3_7"
    assert EstimateKey.parse(key.name) == key


@pytest.mark.parametrize("name", ["estimate_256_4096_3", "estimate_256_4096_3_", "estimate_1_2_3_4.tflite", "x"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="wanted estimate_<T>"):
        EstimateKey.parse(name)


@pytest.mark.parametrize(("heads", "units", "rows"), [(1, 1, 256), (2, 1, 512), (3, 1, 768), (6, 2, 768), (9, 3, 768)])
def test_shapes(heads: int, units: int, rows: int) -> None:
    q_i8, k_i8, scores_i8 = EstimateKey(256, 1024, heads).shapes(SPEC)
    assert (q_i8, k_i8, scores_i8) == ((units, rows, 64), (units, 1024, 64), (units, rows, 1024))


@pytest.mark.parametrize("heads", [0, 4, 5, 12])
def test_heads_that_form_no_group_are_refused(heads: int) -> None:
    with pytest.raises(ValueError, match="neither at most a KV head's 3 nor a multiple"):
        EstimateKey(256, 1024, heads).shapes(SPEC)
