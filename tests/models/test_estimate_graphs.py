"""Names and shapes of estimate graphs."""

import dataclasses

import pytest

from shadowattn.models.estimate_graphs import EstimateKey, keys_of_bundle
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


@pytest.mark.parametrize(
    ("heads", "kv_heads", "longest", "shorter"),
    [
        (9, 3, [1, 3, 6, 9], [1, 3, 9]),
        (32, 8, [1, 4, 8, 16, 32], [1, 4, 32]),
        (4, 4, [1, 2, 4], [1, 4]),
        (8, 1, [1, 8], [1, 8]),
        (1, 1, [1], [1]),
    ],
)
def test_a_bundle_has_groups_of_few_sizes(heads: int, kv_heads: int, longest: list[int], shorter: list[int]) -> None:
    spec = dataclasses.replace(SPEC, num_heads=heads, num_kv_heads=kv_heads)
    keys = keys_of_bundle(spec, (32, 256), (1024, 2048), 2)
    for chunk, sizes in ((256, longest), (32, shorter)):
        for seq_len in (1024, 2048):
            for bucket in (0, 1, 2):
                there = [key.heads for key in keys if (key.chunk, key.seq_len, key.bucket) == (chunk, seq_len, bucket)]
                assert there == sizes
    assert len(set(keys)) == len(keys) == 6 * (len(longest) + len(shorter))
    for key in keys:
        key.shapes(spec)
    assert {key.bucket for key in keys_of_bundle(spec, (8,), (64,), 0)} == {0}
    assert {key.chunk for key in keys_of_bundle(spec, (1, 8), (64,), 0)} == {8}  # one row launches nothing
    assert keys_of_bundle(spec, (1,), (64,), 0) == ()
