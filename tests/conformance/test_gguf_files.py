"""A9: GGUF files in parts, of other versions and byte orders, with biases: read as llama.cpp reads them, or named.

Reference: the transformers model that the file was written from, as llama.cpp's converter would write it.
"""

import io
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf_files import write_gguf
from tiny_models import TinyModel, make_model

from shadowattn.converter.checkpoint import Checkpoint, check_weights
from shadowattn.converter.formats import open_checkpoint
from shadowattn.converter.pipeline import convert
from shadowattn.models.families import read_config
from shadowattn.models.spec import ModelSpec
from shadowattn.runtime import Session

SEED = 20261130
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 4997\n"
BIAS = {"q": "blk.{}.attn_q.bias", "k": "blk.{}.attn_k.bias", "v": "blk.{}.attn_v.bias", "o": "blk.{}.attn_output.bias"}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return make_model(tmp_path_factory.mktemp("llama") / "model", "llama")


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Biases everywhere, head tied, positions scaled."""
    return make_model(tmp_path_factory.mktemp("biased") / "model", "llama_linear_mha_tied")


def opened(path: Path) -> tuple[Checkpoint, ModelSpec]:
    checkpoint = open_checkpoint(path)
    spec = read_config(checkpoint.config, str(path))
    check_weights(checkpoint, spec)
    return checkpoint, spec


def check_equal(path: Path, model: TinyModel) -> ModelSpec:
    checkpoint, spec = opened(path)
    for name, parameter in model.model.state_dict().items():
        if name != "lm_head.weight" or not spec.tied_embeddings:
            np.testing.assert_array_equal(checkpoint.read(name), parameter.numpy(), err_msg=name)
    return spec


def parts(path: Path, model: TinyModel, **layout: Any) -> list[Path]:
    """The parts of a split model, in order."""
    write_gguf(path / "tiny.gguf", model.model, **layout)
    return sorted(path.glob("tiny-*.gguf"))


@pytest.mark.parametrize(
    "layout", [{"split_max_tensors": 4}, {"split_max_tensors": 9, "small_first_shard": True}], ids=str
)
def test_a_split_model_is_read_from_its_first_part(layout: dict[str, Any], llama: TinyModel, tmp_path: Path) -> None:
    files = parts(tmp_path, llama, fields={"general.name": None}, **layout)
    assert len(files) > 2
    check_equal(files[0], llama)
    assert open_checkpoint(files[0]).origin.name == "tiny"


def test_a_link_to_a_file(llama: TinyModel, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "blob", llama.model)
    (tmp_path / "model.gguf").symlink_to(path)
    check_equal(tmp_path / "model.gguf", llama)


def test_version_2(llama: TinyModel, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", llama.model)
    patch(path, 4, struct.pack("<I", 2))
    check_equal(path, llama)


def test_numbers_that_are_given_for_every_layer(llama: TinyModel, tmp_path: Path) -> None:
    fields = {
        "llama.attention.head_count": [5, 5],
        "llama.attention.head_count_kv": [1, 1],
        "llama.feed_forward_length": [176, 176],
    }
    check_equal(write_gguf(tmp_path / "model.gguf", llama.model, fields=fields), llama)


@pytest.mark.parametrize("size", [1, 99, 32000])
def test_the_embedding_says_how_large_the_vocabulary_is(size: int, llama: TinyModel, tmp_path: Path) -> None:
    """llama.cpp counts tokens and asks the embedding for as many rows; vocab_size is often that of the base model."""
    assert (
        check_equal(write_gguf(tmp_path / "m.gguf", llama.model, fields={"llama.vocab_size": size}), llama).vocab_size
        == 288
    )


@pytest.mark.parametrize("original", [7, 64, 500, 8192])
@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama3_scaling_of_any_original_length(original: int, factor: float, llama: TinyModel, tmp_path: Path) -> None:
    """llama.cpp multiplies with what rope_freqs.weight says; here the frequencies have to come out the same."""
    scaling = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = llama.model.config.to_dict() | {
        "rope_parameters": None,
        "rope_scaling": scaling | {"original_max_position_embeddings": original},
        "rope_theta": 5e5,
    }
    wanted = np.array(read_config(config).rope.inverse_frequencies(40))
    plain = 5e5 ** (-np.arange(0, 40, 2) / 40)
    fields = {"llama.rope.freq_base": 5e5}
    divisors = {"rope_freqs.weight": (plain / wanted).astype(np.float32)}
    path = write_gguf(tmp_path / "model.gguf", llama.model, "llama3_rope", fields=fields, tensors=divisors)
    rope = opened(path)[1].rope
    np.testing.assert_allclose(rope.inverse_frequencies(40), wanted, rtol=1e-4)  # the original length is an integer


def test_a_window_as_long_as_the_context_is_none(llama: TinyModel, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", llama.model, fields={"llama.attention.sliding_window": 192})
    check_equal(path, llama)


def test_divisors_of_one_are_no_scaling(llama: TinyModel, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama.model, tensors={"rope_freqs.weight": np.ones(20, np.float32)})
    assert opened(path)[1].rope.kind == "default"


def test_biases_are_used(biased: TinyModel, tmp_path: Path) -> None:
    """End to end: a GGUF file of arch llama with every bias gives the logits of transformers."""
    fields = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    path = write_gguf(tmp_path / "model.gguf", biased.model, "llama_linear_mha_tied", fields=fields)
    spec = check_equal(path, biased)
    assert (spec.qkv_bias, spec.output_bias, spec.mlp_bias) == (True, True, True)
    bundle = convert(
        path,
        tmp_path / "bundle",
        weights="float32",
        prefill_chunks=(5,),
        allow_missing_tokenizer=True,
        progress=io.StringIO(),
    )
    print("seed", SEED)
    tokens = np.random.default_rng(SEED).integers(0, 288, 17)
    wanted = biased.logits(tokens)[-1]
    with Session.open(bundle, keep_ratio=1.0, cache_type="f32") as session:
        assert np.abs(session.prefill(tokens) - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("kinds", ["qkv", "o", "qkvo"])
def test_some_biases(kinds: str, llama: TinyModel, tmp_path: Path) -> None:
    """llama.cpp takes those of q, k and v, and that of the output, each without the other."""
    sizes = {"q": 200, "k": 40, "v": 40, "o": 200}
    tensors = {BIAS[kind].format(i): np.full(sizes[kind], i + 1, np.float32) for kind in kinds for i in range(2)}
    path = write_gguf(tmp_path / "model.gguf", llama.model, tensors=tensors)
    checkpoint, spec = opened(path)
    assert (spec.qkv_bias, spec.output_bias, spec.mlp_bias) == ("q" in kinds, "o" in kinds, False)
    assert checkpoint.read(f"model.layers.1.self_attn.{kinds[0]}_proj.bias")[0] == 2


def test_qwen2_without_biases(llama: TinyModel, tmp_path: Path) -> None:
    """llama.cpp does not insist on them."""
    model = make_model(tmp_path / "model", "qwen2").model
    state = {name: weight for name, weight in model.state_dict().items() if not name.endswith("bias")}
    model.state_dict = lambda: state
    assert not opened(write_gguf(tmp_path / "model.gguf", model, "qwen2"))[1].qkv_bias


def test_a_big_endian_file_can_be_turned_around(llama: TinyModel, tmp_path: Path) -> None:
    """The command of the message, on a copy."""
    path = write_gguf(tmp_path / "model.gguf", llama.model, endianess=gguf.GGUFEndian.BIG)
    with pytest.raises(ValueError, match=r"big-endian .*; use `gguf-convert-endian COPY little` on a copy"):
        opened(path)
    copy = shutil.copy(path, tmp_path / "copy.gguf")
    command = [str(Path(sys.executable).with_name("gguf-convert-endian")), str(copy), "little"]
    done = subprocess.run(command, input="YES\n", capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    check_equal(Path(copy), llama)


# What cannot be read.

Damage = Callable[[Path], Any]


def patch(path: Path, offset: int, content: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[offset : offset + len(content)] = content
    path.write_bytes(data)


def start(content: bytes) -> Damage:
    return lambda path: patch(path, 0, content)


def type_of(tensor: bytes, number: int) -> Damage:
    """Another type in the table of tensors: name, count of dimensions, dimensions, type."""

    def change(path: Path) -> None:
        data = path.read_bytes()
        at = data.index(tensor) + len(tensor)
        dimensions = struct.unpack_from("<I", data, at)[0]
        patch(path, at + 4 + 8 * dimensions, struct.pack("<I", number))

    return change


def value_type(key: bytes, number: int) -> Damage:
    def change(path: Path) -> None:
        patch(path, path.read_bytes().index(key) + len(key), struct.pack("<I", number))

    return change


DAMAGE: dict[str, tuple[Damage, str]] = {
    "version 1": (start(b"GGUF\1\0\0\0"), "GGUF version 1 is not supported; wanted 2 or 3"),
    "version 4": (start(b"GGUF\4\0\0\0"), "GGUF version 4 is not supported; wanted 2 or 3"),
    "GGML": (start(b"lmgg"), "a GGML file from before GGUF; get the model as GGUF version 2 or 3"),
    "GGJT": (start(b"tjgg"), "a GGML file from before GGUF"),
    "a type of a later version": (
        type_of(b"blk.0.attn_q.weight", 99),
        "a tensor has the type number 99, which is not known",
    ),
    "a type that was removed": (
        type_of(b"blk.0.attn_q.weight", 31),
        "a tensor has the type number 31, which is not known",
    ),
    "a type without numbers of its own": (
        type_of(b"output_norm.weight", 26),
        r"tensor output_norm\.weight has the type I32, which cannot be read; readable are F32, F16",
    ),
    "a type of metadata": (
        value_type(b"llama.block_count", 77),
        "a metadata value has the type 77, which GGUF does not know",
    ),
    "a Git LFS pointer": (lambda path: path.write_bytes(LFS_POINTER), "a Git LFS pointer, .* run `git lfs pull`"),
    "only a magic": (lambda path: path.write_bytes(b"GGUF\3"), "the GGUF file is truncated: 5 bytes are there"),
    "a page of a web server": (lambda path: path.write_bytes(b"<!doctype html>"), "not a GGUF file"),
    "a link to nothing": (lambda path: (path.unlink(), path.symlink_to("gone")), "a link to gone, which is not there"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_files_refused_in_one_sentence(damage: Damage, message: str, llama: TinyModel, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", llama.model)
    damage(path)
    with pytest.raises(ValueError, match=message) as caught:
        convert(path, tmp_path / "bundle", allow_missing_tokenizer=True, progress=io.StringIO())
    assert "\n" not in str(caught.value)


NORM = np.ones(200, np.float32)
CONTENT: dict[str, tuple[dict[str, Any], dict[str, np.ndarray], str]] = {
    "an adapter": ({"general.type": "adapter"}, {}, "GGUF file of the type 'adapter', wanted a model; merge it"),
    "a vision encoder": ({"general.type": "mmproj"}, {}, "GGUF file of the type 'mmproj', wanted a model"),
    "layers that differ": (
        {"llama.feed_forward_length": [176, 170]},
        {},
        r"differs from layer to layer \(\[176, 170\]\)",
    ),
    "a scale of the logits": ({"llama.logit_scale": 0.5}, {}, r"llama\.logit_scale = 0\.5 is not supported"),
    "capped logits": ({"llama.final_logit_softcapping": 30.0}, {}, "final_logit_softcapping = 30.0 is not supported"),
    "clamped projections": ({"llama.attention.clamp_kqv": 8.0}, {}, "clamp_kqv = 8.0 is not supported"),
    "attention to both sides": ({"llama.attention.causal": False}, {}, "attention.causal = False is not supported"),
    "a bias of q alone": ({}, {"blk.0.attn_q.bias": NORM}, r"k_proj\.bias is missing"),
    "biases of one layer": (
        {},
        {"blk.0.attn_output.bias": NORM},
        r"layers\.1\.self_attn\.o_proj\.bias is missing",
    ),
    "a bias of the last norm": ({}, {"output_norm.bias": NORM}, r"tensor output_norm\.bias has no place"),
    "a bias of the head": ({}, {"output.bias": np.ones(288, np.float32)}, r"tensor output\.bias has no place"),
    "a bias of a norm": ({}, {"blk.0.attn_norm.bias": NORM}, r"input_layernorm\.bias has no place"),
    "q, k and v in one": (
        {},
        {"blk.0.attn_qkv.weight": np.ones((280, 200), np.float32)},
        "attn_qkv.weight has no place",
    ),
    "longrope": ({}, {"rope_factors_long.weight": np.ones(20, np.float32)}, "rope_factors_long.weight has no place"),
    "one layer less": ({"llama.block_count": 3}, {}, r"layers\.2\..* is missing"),
    "one layer more": ({"llama.block_count": 1}, {}, r"layers\.1\..* has no place in a llama model of 1 layers"),
}


@pytest.mark.parametrize(("fields", "tensors", "message"), CONTENT.values(), ids=CONTENT.keys())
def test_contents_refused_in_one_sentence(
    fields: dict[str, Any], tensors: dict[str, np.ndarray], message: str, llama: TinyModel, tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "model.gguf", llama.model, fields=fields, tensors=tensors)
    with pytest.raises(ValueError, match=message) as caught:
        opened(path)
    assert "\n" not in str(caught.value)


def other_number(files: list[Path]) -> None:
    shutil.copy(files[2], files[1])


SPLIT: dict[str, tuple[int, Callable[[list[Path]], Any], str]] = {
    "the second part": (
        1,
        lambda files: None,
        r"part 00002 of 5 of a model; give the first, tiny-00001-of-00005\.gguf",
    ),
    "a part is missing": (
        0,
        lambda files: files[3].unlink(),
        r"tiny-00004-of-00005\.gguf: the file is missing, though",
    ),
    "a part twice": (0, other_number, r"00002-of-00005\.gguf: not part 2 of this model \(split\.no is another\)"),
    "a part is a Git LFS pointer": (0, lambda files: files[1].write_bytes(LFS_POINTER), "00002.*: a Git LFS pointer"),
    "a part is truncated": (0, lambda files: files[1].write_bytes(files[1].read_bytes()[:-9]), "00002.* is truncated"),
}


@pytest.mark.parametrize(("given", "change", "message"), SPLIT.values(), ids=SPLIT.keys())
def test_parts_refused_in_one_sentence(
    given: int, change: Callable[[list[Path]], Any], message: str, llama: TinyModel, tmp_path: Path
) -> None:
    files = parts(tmp_path, llama, split_max_tensors=5)
    change(files)
    with pytest.raises(ValueError, match=message) as caught:
        opened(files[given])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.gguf", "tiny-00001-of-00009.gguf"])
def test_a_part_under_another_name(name: str, llama: TinyModel, tmp_path: Path) -> None:
    first = parts(tmp_path, llama, split_max_tensors=5)[0]
    path = first.rename(tmp_path / name)
    with pytest.raises(
        ValueError, match=r"one of 5 parts of a model, .*; wanted NAME-00001-of-00005\.gguf and the rest"
    ):
        opened(path)


def test_a_part_of_another_model(llama: TinyModel, biased: TinyModel, tmp_path: Path) -> None:
    files = parts(tmp_path, llama, split_max_tensors=5)
    (tmp_path / "other").mkdir()
    others = parts(tmp_path / "other", biased, split_max_tensors=7, family="llama_linear_mha_tied")
    assert len(others) == len(files)
    shutil.copy(others[2], files[2])
    with pytest.raises(
        ValueError, match=r"its parts hold 2[0-9] different tensors, wanted 21; get all parts of one model"
    ):
        opened(files[0])


def test_a_vocabulary_alone(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "vocab.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match="a GGUF file without weights, as one with a vocabulary alone"):
        opened(tmp_path / "vocab.gguf")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_of_a_folder_instead_of_the_folder(name: str, llama: TinyModel) -> None:
    with pytest.raises(
        ValueError, match=r"not a GGUF file .*wanted a GGUF file or a model directory, or the folder of this"
    ):
        opened(llama.path / name)


def test_bfloat16_weights_of_a_split_model(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", "llama", dtype=torch.bfloat16)
    (tmp_path / "parts").mkdir()
    check_equal(parts(tmp_path / "parts", model, split_max_tensors=6, kind="BF16")[0], model)
