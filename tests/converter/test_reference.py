"""The float model of `shadowattn eval --reference`: transformers' logits, and a float32 bundle loses nothing to it."""

import json

import numpy as np
import pytest
from tiny_models import FAMILIES, SEED, VOCAB

from shadowattn.converter.reference import FloatModel
from shadowattn.runtime import cli


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers(family, tiny):
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    model = tiny(family)
    windows = [rng.integers(0, VOCAB, length).tolist() for length in (1, 30, 17)]
    found = FloatModel(model.path)
    layers: list[tuple[int, int]] = []
    found.read(windows, lambda done, total: layers.append((done, total)))
    assert layers[-1] == (2, 2)
    for number, window in enumerate(windows):
        wanted = model.logits(np.array(window))
        logits = np.concatenate([found.logits(number, start, start + 8) for start in range(0, len(window), 8)])
        assert logits.shape == wanted.shape
        assert np.abs(logits - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_a_float_bundle_is_its_model_and_another_model_is_refused(tiny, tiny_bundle, tmp_path, capsys):
    model, path = tiny_bundle("llama")
    text = tmp_path / "ids.txt"
    text.write_text(" ".join(f"w{number % 200}" for number in range(400)))
    words = ["eval", str(path), "--modes=dense", f"--text={text}", "--window=60", "--max_tokens=120", "--json"]
    assert cli.main([*words, f"--reference={model.path}"]) == 0
    base, dense = json.loads(capsys.readouterr().out)["rows"]
    assert (base["mode"], dense["mode"]) == ("float model", "dense")
    assert dense["kl_mean"] < 1e-6
    assert dense["perplexity"] == pytest.approx(base["perplexity"], rel=1e-4)
    assert cli.main([*words, f"--reference={tiny('qwen2').path}"]) == 1
    assert "is not the model of this bundle" in capsys.readouterr().err
