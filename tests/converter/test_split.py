"""Which graphs a model becomes: a pure function of spec, ladder and buckets."""

import pytest

from shadowattn.converter.split import plan_graphs, prefill_ladder, sequence_buckets, split_chunks
from shadowattn.models.spec import ModelSpec, RopeSpec

SPEC = ModelSpec("llama", 100, 64, 96, 3, 4, 2, 16, 1e-5, RopeSpec(10000.0), 4096, True)


@pytest.mark.parametrize(
    ("max_length", "buckets"),
    [(1, (64,)), (64, (64,)), (65, (128,)), (1024, (1024,)), (1025, (1024, 1088)), (8192, (1024, 2048, 4096, 8192))],
)
def test_buckets_double_and_end_at_max_length(max_length, buckets):
    assert sequence_buckets(max_length) == buckets


def test_default_ladder_is_cut_to_max_length():
    assert prefill_ladder(None, 8192) == (32, 256)
    assert prefill_ladder(None, 100) == (32,)
    assert prefill_ladder(None, 7) == (7,)
    assert prefill_ladder((64, 16, 64), 100) == (16, 64)


@pytest.mark.parametrize("chunks", [(), (0,), (-4, 8), (128,)])
def test_impossible_ladders_are_refused(chunks):
    with pytest.raises(ValueError, match=r"between 1 and max_length \(100\)"):
        prefill_ladder(chunks, 100)


def test_every_role_is_there_with_the_shapes_of_bundle_format():
    graphs = {g.signature: g for g in plan_graphs(SPEC, (32,))}
    assert len(graphs) == 1 + 1 + 1 + 2 * 4
    assert {g.role for g in graphs.values()} == {"prefill", "decode", "score", "linear"}
    assert graphs["prefill_32"].outputs["hidden"].shape == (1, 32, 64)
    assert list(graphs["linear_0_32"].inputs) == ["tokens", "position"]
    assert list(graphs["linear_2_32"].inputs) == ["o", "residual", "position"]
    assert list(graphs["linear_3_32"].inputs) == ["o", "residual", "n_valid"]


def test_decoding_has_linear_graphs_too():
    assert split_chunks((32, 256)) == (1, 32, 256)
    assert split_chunks((1, 8)) == (1, 8)
