"""estimates.zip: what is in it, that its graphs compute the oracle's scores, and the bucket grid calibration fits."""

import dataclasses
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from tiny_models import CHUNK, TinyModel

from shadowattn.converter.calibrate import GridChoice, calibrate
from shadowattn.converter.calibration_text import CalibrationText, calibration_text
from shadowattn.converter.estimate import write_estimates
from shadowattn.converter.formats import open_checkpoint
from shadowattn.converter.pipeline import convert
from shadowattn.models import bundle
from shadowattn.models.estimate_graphs import FILE_NAME, EstimateKey, keys_of_bundle
from shadowattn.models.families import read_config
from shadowattn.models.grid_fit import PAPER_MULTIPLIERS
from shadowattn.models.oracle import grid as grid_oracle
from shadowattn.models.plan import Plan


def read_plan(path: Path) -> Plan:
    return Plan.from_bytes((path / "plan.bin").read_bytes())


def test_every_graph_of_the_manifest_and_no_other(tiny_bundle):
    _, path = tiny_bundle("qwen3")
    manifest = bundle.read_manifest(path)
    plan = read_plan(path)
    wanted = keys_of_bundle(manifest.model, manifest.prefill_chunks, manifest.seq_lens, 9)
    assert manifest.estimate_keys() == wanted
    with zipfile.ZipFile(path / FILE_NAME) as archive:
        assert archive.namelist() == [f"{key.name}.tflite" for key in wanted]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        for key in wanted:
            interpreter = Interpreter(model_content=archive.read(f"{key.name}.tflite"))
            assert list(interpreter.get_signature_list()) == [key.name]
            tensors = {tensor["name"]: tensor for tensor in interpreter.get_tensor_details()}
            scales = (1, 1, np.float32(1 / plan.estimate_multiplier))
            assert float(np.float32(1) / scales[2]) == plan.estimate_multiplier
            if key.bucket:
                i, j = plan.grid.pair(key.bucket)
                scales = (plan.grid.q_scales[i], plan.grid.k_scales[j], plan.grid.score_scales[i, j])
            names = ("q_i8", "k_i8", "scores_i8")
            for name, shape, scale in zip(names, key.shapes(manifest.model), scales, strict=True):
                tensor = tensors[f"{key.name}:{name}"]
                assert (tuple(tensor["shape"]), tensor["dtype"]) == (shape, np.int8)
                assert tensor["quantization"] == (scale, 0)


@pytest.mark.parametrize("bucket", [0, 1, 5, 9])
@pytest.mark.parametrize("heads", ["one", "group", "all"])
def test_a_graph_computes_the_oracles_scores(tiny_bundle, heads, bucket):
    _, path = tiny_bundle("llama")
    spec, plan = bundle.read_manifest(path).model, read_plan(path)
    count = {"one": 1, "group": spec.group_size, "all": spec.num_heads}[heads]
    key = EstimateKey(CHUNK, 192, count, bucket)
    with zipfile.ZipFile(path / FILE_NAME) as archive:
        interpreter = Interpreter(model_content=archive.read(f"{key.name}.tflite"))
    rng = np.random.default_rng(bucket)
    q_i8, k_i8 = (rng.integers(-127, 128, shape).astype(np.int8) for shape in key.shapes(spec)[:2])
    found = interpreter.get_signature_runner(key.name)(q_i8=q_i8, k_i8=k_i8)["scores_i8"]
    multiplier = plan.grid.multiplier(bucket) if bucket else plan.estimate_multiplier
    wanted = grid_oracle.grid_scores(q_i8, k_i8, multiplier)
    # XNNPACK multiplies and divides the scales in float32: one step off where a score is a rounding away from a tie.
    exact = grid_oracle.accumulate(q_i8, k_i8).astype(np.float64) * multiplier
    near_a_tie = np.abs(exact - np.floor(exact) - 0.5) <= np.abs(exact) * 2.0**-21
    assert (np.abs(found.astype(int) - wanted) <= near_a_tie).all()
    assert len(np.unique(found)) > 100


def test_the_same_graphs_give_the_same_bytes(tiny_bundle, tmp_path):
    _, path = tiny_bundle("llama")
    manifest = bundle.read_manifest(path)
    write_estimates(tmp_path / "again.zip", manifest.model, manifest.estimate_keys(), read_plan(path))
    assert (tmp_path / "again.zip").read_bytes() == (path / FILE_NAME).read_bytes()


def test_the_manifest_says_what_the_grid_costs(tiny_bundle):
    _, path = tiny_bundle("llama")
    facts = bundle.read_manifest(path).calibration["grid"]
    assert facts["multipliers"] == list(PAPER_MULTIPLIERS)
    assert facts["chunk"] == CHUNK
    assert facts["saturation"]["worst"] == 0.0  # of the text that it was fitted on
    assert 1 < facts["levels"]["worst"] <= facts["levels"]["mean"] <= 192
    for name in ("zeros", "q_saturation", "k_saturation", "outside"):
        assert 0 <= facts[name]["mean"] <= facts[name]["worst"] <= 1


def _calibrated(model: TinyModel, grid: GridChoice) -> Plan:
    checkpoint = open_checkpoint(model.path)
    text = CalibrationText("random", np.random.default_rng(6).integers(0, 288, 100))
    return calibrate(read_config(checkpoint.config), checkpoint.read, text, lambda *_: None, grid).plan


def test_scales_are_multiples_of_the_mean_over_layers_heads_and_chunks(tiny):
    one, three = (_calibrated(tiny("llama"), GridChoice(m, 32)).grid for m in ((1.0,), (0.25, 1.0, 3.0)))
    for name in ("q_scales", "k_scales"):
        np.testing.assert_allclose(getattr(three, name), getattr(one, name) * [0.25, 1, 3], rtol=1e-6)
    # Larger chunks have larger largest elements, and so have all keys up to a later chunk.
    whole = _calibrated(tiny("llama"), GridChoice((1.0,), 100)).grid
    assert whole.q_scales > one.q_scales
    assert whole.k_scales > one.k_scales


def test_the_grid_changes_nothing_else_in_the_plan(tiny):
    without, with_grid = (_calibrated(tiny("llama"), GridChoice(m)) for m in ((), (1.0,)))
    assert without.grid is None
    assert dataclasses.replace(with_grid, grid=None).to_bytes() == without.to_bytes()


def test_a_bundle_without_a_grid_has_rank_invariant_graphs(tiny, tmp_path):
    path = convert(tiny("llama").path, tmp_path / "b", prefill_chunks=(3,), grid_multipliers=(), progress=io.StringIO())
    manifest = bundle.read_manifest(path)
    assert {key.bucket for key in manifest.estimate_keys()} == {0}
    assert read_plan(path).grid is None
    assert manifest.calibration["grid"] == {}


def test_a_text_of_ones_own(tiny, tmp_path):
    model = tiny("llama")
    own = tmp_path / "own words.txt"
    own.write_text(" ".join(f"w{3 + i % 90}" for i in range(5000)), "utf-8")
    spec = read_config(open_checkpoint(model.path).config)
    text = calibration_text(spec, (model.path / "tokenizer.json").read_text(), own)
    assert (text.description, len(text.ids)) == ("own words.txt", spec.max_length)
    assert text.ids[:100].tolist() == [3 + i % 90 for i in range(100)]
