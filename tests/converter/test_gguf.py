"""GGUF files, written here from tiny models as llama.cpp's converter would: the same config and weights come back."""

import io
from collections.abc import Callable
from typing import Any

import gguf
import numpy as np
import pytest
from gguf_files import write_gguf

from shadowattn.converter.checkpoint import check_weights
from shadowattn.converter.formats import open_checkpoint
from shadowattn.converter.gguf_file import READABLE_TYPES
from shadowattn.converter.pipeline import convert
from shadowattn.models import bundle
from shadowattn.models.families import read_config
from shadowattn.models.spec import RopeSpec


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_weights_and_config_come_back(family, tiny, tmp_path):
    model = tiny(family)
    checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", model.model, family))
    spec = read_config(checkpoint.config)
    wanted = read_config(open_checkpoint(model.path).config)
    assert spec.rms_norm_eps == pytest.approx(wanted.rms_norm_eps, rel=1e-6)
    assert spec == type(spec)(**(vars(wanted) | {"rms_norm_eps": spec.rms_norm_eps}))
    check_weights(checkpoint, spec)
    for name, parameter in model.model.state_dict().items():
        np.testing.assert_array_equal(checkpoint.read(name), parameter.numpy(), err_msg=name)
    assert checkpoint.origin.licence == "apache-2.0"
    assert checkpoint.stop_token_ids == (2, 5)


@pytest.mark.parametrize(
    ("kind", "error"), [("F16", 1e-3), ("BF16", 1e-2), ("Q8_0", 1e-2), ("Q4_0", 0.2), ("Q5_1", 0.1)]
)
def test_quantised_types_are_dequantised(kind, error, new_model, tmp_path):
    model = new_model("llama", hidden_size=64, intermediate_size=96, head_dim=16, num_attention_heads=4)
    checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", model.model, kind=kind))
    for name, parameter in model.model.state_dict().items():
        wanted = parameter.numpy()
        assert np.abs(checkpoint.read(name) - wanted).max() <= error * np.abs(wanted).max()


def test_every_listed_type_can_be_dequantised():
    for name in READABLE_TYPES:
        qtype = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[qtype]
        data = np.zeros((1, size if name not in ("F32", "F16") else 1), np.uint8)
        if name in ("F32", "F16"):
            data = np.zeros((1, 1), np.float32 if name == "F32" else np.float16)
        assert gguf.quants.dequantize(data, qtype).size == block


def test_llama3_scaling_is_recognised_from_its_divisors(tiny, tmp_path):
    model = tiny("llama3_rope")
    scaled = RopeSpec(500000.0, "llama3", 8.0, 1.0, 4.0, 8192)
    plain = np.array(RopeSpec(500000.0).inverse_frequencies(32))
    divisors = (plain / np.array(scaled.inverse_frequencies(32))).astype(np.float32)
    path = write_gguf(tmp_path / "model.gguf", model.model, "llama3_rope", tensors={"rope_freqs.weight": divisors})
    assert read_config(open_checkpoint(path).config).rope == scaled


def test_other_divisors_are_refused(tiny, tmp_path):
    divisors = np.linspace(1, 3, 16).astype(np.float32)
    path = write_gguf(
        tmp_path / "model.gguf", tiny("llama3_rope").model, "llama3_rope", tensors={"rope_freqs.weight": divisors}
    )
    with pytest.raises(ValueError, match=r"rope_freqs\.weight is not the llama3 scaling"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
        {"llama.rope.scaling.factor": 4.0},
        {"llama.rope.scale_linear": 4.0},
        {"llama.rope.scaling.factor": 4.0, "llama.rope.scaling.attn_factor": 1.0, "llama.rope.scaling.finetuned": 1},
    ],
)
def test_linear_scaling(fields, tiny, tmp_path):
    path = write_gguf(tmp_path / "model.gguf", tiny("llama").model, fields=fields)
    rope = read_config(open_checkpoint(path).config).rope
    assert (rope.kind, rope.factor, rope.theta) == ("linear", 4.0, 10000.0)


@pytest.mark.parametrize("fields", [{}, {"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0}])
def test_no_scaling(fields, tiny, tmp_path):
    path = write_gguf(tmp_path / "model.gguf", tiny("llama").model, fields=fields)
    assert read_config(open_checkpoint(path).config).rope == RopeSpec(10000.0)


def test_divisors_and_a_factor_are_refused(tiny, tmp_path):
    fields = {"llama.rope.scaling.factor": 4.0}
    divisors = {"rope_freqs.weight": np.ones(16, np.float32)}
    path = write_gguf(
        tmp_path / "model.gguf", tiny("llama3_rope").model, "llama3_rope", fields=fields, tensors=divisors
    )
    with pytest.raises(
        ValueError, match=r"RoPE scaling both by rope_freqs\.weight and by llama\.rope\.scaling\.factor"
    ):
        open_checkpoint(path)


METADATA: list[tuple[dict[str, Any], str]] = [
    (
        {"general.architecture": "gemma"},
        "GGUF architecture 'gemma' is not supported; supported are llama, qwen2, qwen3",
    ),
    ({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}, "RoPE scaling 'yarn' is not supported"),
    ({"llama.rope.scaling.type": "longrope"}, "RoPE scaling 'longrope' is not supported"),
    ({"llama.rope.scaling.attn_factor": 1.2}, r"attn_factor other than 1\.0 is not supported"),
    ({"llama.rope.scaling.yarn_log_multiplier": 0.1}, "yarn_log_multiplier is not supported; known are freq_base"),
    ({"llama.rope.scaling.factor": "x"}, r"rope\.scaling\.factor must be a finite number, got 'x'"),
    ({"llama.attention.head_count": 0}, r"head_count must be a positive integer, got 0"),
    ({"llama.attention.head_count": "x"}, r"model\.gguf: llama\.attention\.head_count must be a positive integer"),
    ({"llama.attention.head_count_kv": 0}, r"head_count_kv must be a positive integer, got 0"),
    ({"llama.attention.sliding_window": 191}, r"sliding-window attention \(window 191\) is not supported"),
    ({"llama.rope.dimension_count": 20}, r"partial rotary embedding \(20 of 40 dimensions\)"),
    ({"llama.attention.scale": 0.5}, r"an attention scale of 0\.5 is not supported, wanted 40\*\*-0\.5"),
    ({"llama.expert_count": 8}, "mixture-of-experts models are not supported"),
    ({"llama.embedding_length": None}, r"the metadata lack llama\.embedding_length"),
]


@pytest.mark.parametrize(("fields", "message"), METADATA, ids=[message[:24] for _, message in METADATA])
def test_metadata_that_cannot_be_converted(fields, message, tiny, tmp_path):
    path = write_gguf(tmp_path / "model.gguf", tiny("llama").model, fields=fields)
    with pytest.raises(ValueError, match=message):
        open_checkpoint(path)


@pytest.mark.parametrize("keep", [0.001, 0.01, 0.3, 0.9, 0.999])
def test_truncated_file(keep, tiny, tmp_path):
    path = write_gguf(tmp_path / "model.gguf", tiny("llama").model)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ValueError, match=r"model\.gguf: the GGUF file is truncated|not a GGUF file"):
        open_checkpoint(path)


def test_file_that_is_no_gguf(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"not a GGUF file .*wanted a GGUF file or a model directory"):
        open_checkpoint(tmp_path / "model.gguf")


def test_tensor_without_a_place(tiny, tmp_path):
    extra = {"blk.0.ssm_conv1d.weight": np.zeros((4, 4), np.float32)}
    path = write_gguf(tmp_path / "model.gguf", tiny("llama").model, tensors=extra)
    with pytest.raises(ValueError, match=r"tensor blk\.0\.ssm_conv1d\.weight has no place"):
        open_checkpoint(path)


def test_damaged_metadata(tiny, tmp_path):
    path = write_gguf(tmp_path / "model.gguf", tiny("llama").model)
    content = bytearray(path.read_bytes())
    content[24:200] = b"\xff" * 176
    path.write_bytes(content)
    with pytest.raises(ValueError, match="the GGUF file is truncated or damaged"):
        open_checkpoint(path)


def test_gguf_and_directory_make_the_same_graphs(tiny_bundle: Callable[..., Any], tmp_path):
    model, from_directory = tiny_bundle("llama")
    path = write_gguf(tmp_path / "model.gguf", model.model, fields={"llama.attention.layer_norm_rms_epsilon": 1e-6})
    output = convert(
        path,
        tmp_path / "out.bundle",
        weights="float32",
        prefill_chunks=(5,),
        allow_missing_tokenizer=True,
        progress=io.StringIO(),
    )
    first, second = bundle.read_manifest(from_directory), bundle.read_manifest(output)
    assert [g.signature for g in first.graphs] == [g.signature for g in second.graphs]
    assert second.tokenizer.file is None
    assert second.tokenizer.stop_token_ids == (2, 5)
    sizes = [manifest.files[bundle.MODEL].bytes for manifest in (first, second)]
    assert sizes[0] == sizes[1]
