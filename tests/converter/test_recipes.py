"""Weight quantisation: the same integers and scales as Google's quantizer, and what it does at the edges."""

import numpy as np
import pytest
import torch

from shadowattn.converter import toolchain
from shadowattn.converter.recipes import RECIPES, recipe_named


def test_int8_equals_the_ai_edge_quantizer(tmp_path):
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_quantizer import quantizer, recipe

    torch.manual_seed(5)
    layer = torch.nn.Linear(48, 24, bias=False).eval()
    with toolchain.quiet():
        toolchain.load().convert(layer, (torch.zeros(1, 3, 48),)).export(str(tmp_path / "float.tflite"))
        content = (
            quantizer.Quantizer(str(tmp_path / "float.tflite"), recipe.dynamic_wi8_afp32()).quantize().quantized_model
        )
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytes(content), 0))
    theirs = next(t for t in model.subgraphs[0].tensors if t.type == schema.TensorType.INT8)
    ours = RECIPES["int8"].store(layer.weight.detach().numpy())
    data = np.asarray(model.buffers[theirs.buffer].data, np.uint8).view(np.int8).reshape(ours.data.shape)
    np.testing.assert_array_equal(ours.data, data)
    np.testing.assert_allclose(ours.scale, theirs.quantization.scale, rtol=1e-6)


def test_int8_error_is_at_most_half_a_step():
    weight = np.random.default_rng(0).standard_normal((7, 33)).astype(np.float32)
    stored = RECIPES["int8"].store(weight)
    assert stored.data.dtype == np.int8
    assert np.abs(stored.data).max() == 127
    assert (np.abs(stored.dequantized() - weight) <= 0.5001 * stored.scale[:, None]).all()


def test_a_row_of_zeros_keeps_a_usable_scale():
    stored = RECIPES["int8"].store(np.zeros((2, 8), np.float32))
    assert (stored.scale == 1).all()
    assert not stored.data.any()


def test_vectors_and_float32_are_kept():
    vector = np.arange(5, dtype=np.float32)
    assert RECIPES["int8"].store(vector).scale is None
    matrix = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(RECIPES["float32"].store(matrix).data, matrix)


def test_unknown_recipe_lists_the_known():
    with pytest.raises(ValueError, match=r"int8, float32.*'int4'"):
        recipe_named("int4")
