"""What cannot be converted ends in one sentence that says what was wanted, what came and where, and leaves nothing."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from shadowattn.converter import resources
from shadowattn.converter.calibration_text import calibration_text
from shadowattn.converter.flatbuffer import ModelFile
from shadowattn.converter.pipeline import convert
from shadowattn.converter.recipes import parse_recipe
from shadowattn.converter.split import plan_graphs
from shadowattn.models.spec import ModelSpec, RopeSpec

WEIGHTS = "model.safetensors"
ONE_BILLION = ModelSpec("llama", 128256, 2048, 8192, 16, 32, 8, 64, 1e-5, RopeSpec(500000.0), 131072, True)


@pytest.fixture
def model(tiny: Callable[[str], Any], tmp_path: Path) -> Path:
    """A copy of a tiny model that a test may damage."""
    return Path(shutil.copytree(tiny("llama").path, tmp_path / "model"))


def refuse(model: Path, tmp_path: Path, message: str, **choices: Any) -> None:
    """The conversion raises one sentence that matches, and no trace of an output is left."""
    output = tmp_path / "out.bundle"
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ValueError, match=message) as caught:
        convert(model, output, progress=io.StringIO(), **choices)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def edit_config(model: Path, **changes: Any) -> None:
    path = model / "config.json"
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps({key: value for key, value in config.items() if value != "REMOVED"}))


def edit_weights(model: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = safetensors.torch.load_file(model / WEIGHTS)
    change(weights)
    safetensors.torch.save_file(weights, model / WEIGHTS)


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"architectures": ["GemmaForCausalLM"]}, "architecture GemmaForCausalLM is not supported; supported are"),
    ({"architectures": [["LlamaForCausalLM"]]}, r"config\.json: architecture .* is not supported; supported are"),
    ({"num_hidden_layers": 2**31 - 1}, r"config\.json: num_layers must be in 1\.\.1024, got 2147483647"),
    ({"rms_norm_eps": "x"}, r"config\.json: rms_norm_eps must be a finite number, got 'x'"),
    ({"rope_parameters": None, "rope_scaling": [1]}, r"rope_scaling must be an object, got \[1\]"),
    (
        {"architectures": None, "model_type": "gemma"},
        r"architecture none given \(model_type 'gemma'\) is not supported",
    ),
    ({"model_type": "qwen2"}, r"architectures says LlamaForCausalLM and model_type says 'qwen2'"),
    ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "RoPE type 'yarn' is not supported"),
    ({"rope_parameters": {"rope_type": "linear"}}, "lacks factor"),
    ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
    ({"num_hidden_layers": 0}, "num_hidden_layers must be a positive integer, got 0"),
    ({"num_hidden_layers": 3}, r"weight model\.layers\.2\..* is missing"),
    ({"num_hidden_layers": 1}, r"weight model\.layers\.1\..* has no place"),
    ({"num_key_value_heads": 2}, "5 query heads are not a multiple of 2 KV heads"),
    ({"intermediate_size": 175}, r"has shape \(176, 200\), the config asks for \(175, 200\)"),
    ({"head_dim": 39}, "head_dim must be even"),
    ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config.*get the model's unquantised files"),
    ({"architectures": ["MistralForCausalLM"], "sliding_window": 191}, "sliding-window attention"),
    (
        {
            "architectures": ["Qwen2ForCausalLM"],
            "use_sliding_window": True,
            "sliding_window": 9,
            "max_window_layers": 1,
        },
        "sliding-window attention",
    ),
]


@pytest.mark.parametrize(("changes", "message"), CONFIGS, ids=[message[:30] for _, message in CONFIGS])
def test_configs_that_cannot_be_converted(changes, message, model, tmp_path):
    edit_config(model, **changes)
    refuse(model, tmp_path, message)


def test_model_that_is_not_there(tmp_path):
    refuse(tmp_path / "nothing", tmp_path, "no such model; wanted a Hugging Face directory or a GGUF file")


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_missing_file(name, model, tmp_path):
    (model / name).unlink()
    refuse(model, tmp_path, name.replace(".", r"\."))


@pytest.mark.parametrize("text", ["{", "[]", "\udcff", "[" * 100_000, '{"a": ' + "9" * 5000 + "}"], ids=range(5))
def test_damaged_config(text, model, tmp_path):
    (model / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refuse(model, tmp_path, r"config\.json: (not valid JSON|expected a JSON object)")


def test_damaged_tokenizer(model, tmp_path):
    (model / "tokenizer.json").write_text('{"version": ')
    refuse(model, tmp_path, r"tokenizer\.json: not valid JSON")


def test_tokenizer_that_the_library_does_not_take(model, tmp_path):
    (model / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Unheard"}}')
    refuse(model, tmp_path, r"tokenizer\.json.* cannot be read")


def test_tokenizer_settings_that_are_no_text(model, tmp_path):
    (model / "tokenizer_config.json").write_text('{"bos_token": "\\ud800"}')
    refuse(model, tmp_path, "hold text that is not Unicode")


@pytest.mark.parametrize("file", ["../model.safetensors", "/tmp/model.safetensors", ".", "", "a\0b", 5])
def test_index_that_leaves_the_folder(file, model, tmp_path):
    (model / WEIGHTS).unlink()  # an index beside a whole file is not read
    index = {"weight_map": {"model.norm.weight": file}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    refuse(model, tmp_path, r"weight model\.norm\.weight is said to be in .*; wanted the name of a file")


def test_model_without_tokenizer(model, tmp_path):
    (model / "tokenizer.json").unlink()
    refuse(model, tmp_path, "no tokenizer.*--allow_missing_tokenizer")


def test_pickled_weights_only(model, tmp_path):
    (model / WEIGHTS).rename(model / "pytorch_model.bin")
    refuse(model, tmp_path, r"got pytorch_model\.bin: convert it to safetensors first")


@pytest.mark.parametrize("keep", [0.0, 0.0001, 0.5, 0.999])
def test_truncated_weights(keep, model, tmp_path):
    content = (model / WEIGHTS).read_bytes()
    (model / WEIGHTS).write_bytes(content[: int(len(content) * keep)])
    refuse(model, tmp_path, "not a whole safetensors file.*get the file again")


def test_weights_with_a_damaged_header(model, tmp_path):
    content = bytearray((model / WEIGHTS).read_bytes())
    content[8:40] = bytes(32)
    (model / WEIGHTS).write_bytes(content)
    refuse(model, tmp_path, "not a whole safetensors file")


def test_weights_that_hold_nan(model, tmp_path):
    edit_weights(model, lambda weights: weights["model.layers.1.mlp.up_proj.weight"].fill_(float("nan")))
    refuse(model, tmp_path, r"weight model\.layers\.1\.mlp\.up_proj\.weight holds NaN or infinity")


def test_weight_that_is_missing(model, tmp_path):
    edit_weights(model, lambda weights: weights.pop("model.layers.0.self_attn.k_proj.weight"))
    refuse(model, tmp_path, r"weight model\.layers\.0\.self_attn\.k_proj\.weight is missing")


def test_weights_in_a_type_that_cannot_be_read(model, tmp_path):
    name = "model.layers.0.mlp.up_proj.weight"
    edit_weights(model, lambda weights: weights.update({name: weights[name].to(torch.int8)}))
    refuse(model, tmp_path, "is I8; wanted float32, float16 or bfloat16")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"weights": "int4"}, "weights must be int8 or float32, got 'int4'"),
        ({"keep_ratio": 0.0}, r"keep_ratio must be in \(0, 1\], got 0\.0"),
        ({"keep_ratio": float("nan")}, "keep_ratio must be in"),
        ({"keep_ratio": 1.5}, "keep_ratio must be in"),
        ({"max_length": 0}, "max_length must be between 1 and 192"),
        ({"max_length": 193}, r"max_length must be between 1 and 192 .*, got 193"),
        ({"prefill_chunks": (500,)}, "prefill_chunks must be lengths between 1 and max_length"),
        ({"prefill_chunk": (5,)}, "unknown option 'prefill_chunk'; known are"),
    ],
)
def test_options_that_make_no_sense(choices, message, model, tmp_path):
    refuse(model, tmp_path, message, **choices)


def test_output_that_exists(model, tmp_path):
    (tmp_path / "out.bundle").mkdir()
    refuse(model, tmp_path, "already exists")


def test_too_little_disk(model, tmp_path, monkeypatch):
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    refuse(model, tmp_path, r"the bundle needs .* GiB of disk, 0\.00 GiB are free")


def test_too_little_memory(model, tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "available_memory_bytes", lambda: 100 << 20)
    refuse(model, tmp_path, r"converting needs about .* GiB of memory, 0\.10 GiB are available")


def test_rounded_layers_take_disk_and_memory_of_their_own(tmp_path, monkeypatch):
    """Room for the file alone is enough with effort=quick only."""
    graphs, recipe = plan_graphs(ONE_BILLION, (32, 256)), parse_recipe("int8")
    size = resources.model_file_bytes(ONE_BILLION, recipe, graphs)
    free = size + 2**28
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free))
    monkeypatch.setattr(resources, "available_memory_bytes", lambda: None)
    resources.check_resources(ONE_BILLION, recipe, graphs, tmp_path)
    with pytest.raises(ValueError, match="GiB of disk"):
        resources.check_resources(ONE_BILLION, recipe, graphs, tmp_path, compensates=True)
    quick, default = (resources.peak_memory_bytes(ONE_BILLION, 0, compensates) for compensates in (False, True))
    assert default > quick + 2**29


def test_disk_that_fills_up_while_writing(model, tmp_path, monkeypatch):
    real = ModelFile.write
    monkeypatch.setattr(ModelFile, "write", lambda self, _path, *rest: real(self, Path("/dev/full"), *rest))
    refuse(model, tmp_path, "the disk became full while writing; nothing was kept", prefill_chunks=(2,))


def test_models_above_two_gigabytes_are_refused_by_size_alone(tmp_path):
    three_billion = ModelSpec("llama", 128256, 3072, 8192, 28, 24, 8, 128, 1e-5, RopeSpec(500000.0), 131072, True)
    for spec, weights, message in (
        (three_billion, "int8", "2.99 GiB as int8.*choose a smaller model"),
        (ONE_BILLION, "float32", "4.60 GiB as float32.*use --weights=int8"),
    ):
        graphs = plan_graphs(spec, (32, 256))
        size = resources.model_file_bytes(spec, parse_recipe(weights), graphs) / 2**30
        with pytest.raises(ValueError, match="above the 2 GiB that one LiteRT file can hold"):
            resources.check_resources(spec, parse_recipe(weights), graphs, tmp_path)
        assert size == pytest.approx(float(message[:4]), rel=0.03)
    assert resources.model_file_bytes(ONE_BILLION, parse_recipe("int8"), graphs) < 2**31


def test_model_that_computes_nan(model, tmp_path, monkeypatch):
    def overflow(weights: dict[str, torch.Tensor]) -> None:
        weights["model.layers.0.mlp.down_proj.weight"].fill_(3e38)

    edit_weights(model, overflow)
    refuse(model, tmp_path, "layer 1 computes NaN or infinity")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read .No such file"),
        (b"caf\xe9", "must be UTF-8 .* at byte 3"),
        (b"", "needs 16 different tokens .* got 0"),
        (b"w4 w5 w6 w4 w5", "needs 16 different tokens .* got 3"),
    ],
    ids=str,
)
def test_a_calibration_text_that_says_nothing(tiny, tmp_path, content, message):
    own = tmp_path / "own.txt"
    if content is not None:
        own.write_bytes(content)
    with pytest.raises(ValueError, match=f"own.txt.*{message}"):
        convert(tiny("llama").path, tmp_path / "b", calibration_text=own, progress=io.StringIO())
    assert not (tmp_path / "b").exists()


def test_a_calibration_text_needs_a_tokenizer(tmp_path):
    with pytest.raises(ValueError, match="no tokenizer"):
        calibration_text(ModelSpec("llama", 8, 64, 96, 1, 4, 2, 16, 1e-5, RopeSpec(1e4), 64, True), None, tmp_path)


def test_impossible_grids_are_refused_before_work_begins(tiny, tmp_path):
    for multipliers in ((1.0, 0.5), (0.0,), (float("nan"),)):
        with pytest.raises(ValueError, match="grid multipliers must be 1 to 16 ascending"):
            convert(tiny("llama").path, tmp_path / "b", grid_multipliers=multipliers, progress=io.StringIO())


def test_calibration_needs_no_english_tokens(tiny):
    spec = ModelSpec("llama", 8, 64, 96, 1, 4, 2, 16, 1e-5, RopeSpec(10000.0), 64, True)
    text = calibration_text(spec, (tiny("llama").path / "tokenizer.json").read_text())
    assert text.description == "random token ids (seed 0)"  # a word-level tokenizer knows no word of it: all <unk>
    assert text.ids.max() < 8
    assert calibration_text(spec, None).description == "random token ids (seed 0)"
    assert np.array_equal(calibration_text(spec, None).ids, calibration_text(spec, None).ids)
