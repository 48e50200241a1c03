"""The check at the end of a conversion notices a wrong file."""

import numpy as np
import pytest

from shadowattn.converter.formats import open_checkpoint
from shadowattn.converter.recipes import StoredWeight, parse_recipe
from shadowattn.converter.verify import verify_model
from shadowattn.models import bundle


def stored(model):
    read = open_checkpoint(model.path).read
    return lambda name: StoredWeight(read(name))


def verified(path, model, load_weight=None):
    manifest = bundle.read_manifest(path)
    load = load_weight or stored(model)
    return verify_model(path / bundle.MODEL, manifest.model, parse_recipe("float32"), manifest.graphs, load)


def test_a_good_file_passes(tiny_bundle):
    model, path = tiny_bundle("llama")
    differences = verified(path, model).differences
    assert set(differences) == {"linear_0_5", "linear_1_5", "linear_2_5"}
    assert max(differences.values()) < 1e-5


@pytest.mark.parametrize("name", ["model.layers.0.mlp.gate_proj.weight", "model.norm.weight", "lm_head.weight"])
def test_another_weight_is_noticed(name, tiny_bundle):
    model, path = tiny_bundle("llama")
    good = stored(model)

    def other(wanted: str) -> StoredWeight:
        weight = good(wanted).data
        return StoredWeight(weight * np.float32(1.01) if wanted == name else weight)

    with pytest.raises(RuntimeError, match="differs from torch by"):
        verified(path, model, other)


def test_missing_graphs_are_noticed(tiny_bundle):
    model, path = tiny_bundle("llama")
    manifest = bundle.read_manifest(path)
    spec, graphs = manifest.model, manifest.graphs
    renamed = bundle.Graph("prefill_9", "prefill", 9, graphs[0].inputs, graphs[0].outputs)
    with pytest.raises(RuntimeError, match="prefill_9 has custom ops for layers None"):
        verify_model(path / bundle.MODEL, spec, parse_recipe("float32"), (*graphs, renamed), stored(model))
