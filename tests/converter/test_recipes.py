"""Weight quantisation: the same integers and scales as Google's quantizer, and what it does at the edges."""

import numpy as np
import pytest
import torch

from shadowattn.converter import toolchain
from shadowattn.converter.recipes import parse_recipe
from shadowattn.converter.weight_names import HEAD_ROTATION


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
    ours = parse_recipe("int8").store("a.weight", layer.weight.detach().numpy())
    data = np.asarray(model.buffers[theirs.buffer].data, np.uint8).view(np.int8).reshape(ours.data.shape)
    np.testing.assert_array_equal(ours.data, data)
    np.testing.assert_allclose(ours.scale, theirs.quantization.scale, rtol=1e-6)


def test_int8_error_is_at_most_half_a_step():
    weight = np.random.default_rng(0).standard_normal((7, 33)).astype(np.float32)
    stored = parse_recipe("int8").store("a.weight", weight)
    assert stored.data.dtype == np.int8
    assert np.abs(stored.data).max() == 127
    assert (np.abs(stored.dequantized() - weight) <= 0.5001 * stored.scale[:, None]).all()


def test_a_row_of_zeros_keeps_a_usable_scale():
    stored = parse_recipe("int8").store("a.weight", np.zeros((2, 8), np.float32))
    assert (stored.scale == 1).all()
    assert not stored.data.any()


def test_vectors_and_float32_are_kept():
    vector = np.arange(5, dtype=np.float32)
    assert parse_recipe("int8").store("a.weight", vector).scale is None
    matrix = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(parse_recipe("float32").store("a.weight", matrix).data, matrix)


@pytest.mark.parametrize("name", ["int8", "float32", "int8:rotate=off", "float32:rotate=on"])
def test_a_recipe_is_named_as_it_was_parsed(name):
    recipe = parse_recipe(name)
    assert recipe.name == name
    assert recipe.rotated == (name in ("int8", "float32:rotate=on"))


def test_what_a_format_does_anyway_is_not_in_its_name():
    assert parse_recipe("int8:rotate=on").name == "int8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int4", "weights must be int8 or float32, got 'int4'"),
        ("", "weights must be int8 or float32, got ''"),
        ("int8:", "'int8:': wanted rotate=on or rotate=off, got ''"),
        ("int8:rotate", "wanted rotate=on or rotate=off, got 'rotate'"),
        ("int8:rotate=on,block=32", "got 'block=32'"),
    ],
)
def test_another_recipe_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_recipe(text)


def test_the_head_rotation_stays_float32():
    assert parse_recipe("int8").store(HEAD_ROTATION, np.eye(3, dtype=np.float32)).scale is None
