"""A6: lm_head and embedding are one matrix where the tensors are, whatever the config says.

Reference: the logits of the model that transformers loads from the same folder.
"""

import functools
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from gguf_files import write_gguf
from tiny_models import make_model

from shadowattn.converter.checkpoint import Checkpoint, check_weights
from shadowattn.converter.formats import open_checkpoint
from shadowattn.converter.pipeline import convert
from shadowattn.models.families import read_config
from shadowattn.models.spec import ModelSpec
from shadowattn.runtime import Session

SEED = 20261130
EMBEDDING, LM_HEAD = "model.embed_tokens.weight", "lm_head.weight"
WEIGHTS = "model.safetensors"
Weights = dict[str, torch.Tensor]


def other_head(weights: Weights) -> None:
    generator = torch.Generator().manual_seed(SEED)
    weights[LM_HEAD] = 0.1 * torch.randn(weights[EMBEDDING].shape, generator=generator)


def one_row_differs(weights: Weights) -> None:
    weights[LM_HEAD] = weights[EMBEDDING].clone()
    weights[LM_HEAD][-1, -1] += 1


def same_head(weights: Weights) -> None:
    weights[LM_HEAD] = weights[EMBEDDING].clone()


def no_head(weights: Weights) -> None:
    weights.pop(LM_HEAD, None)


def head_in_place_of_the_embedding(weights: Weights) -> None:
    weights[LM_HEAD] = weights.pop(EMBEDDING)


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("untied") / "model", "llama").path


@pytest.fixture
def model(untied: Path, tmp_path: Path) -> Callable[..., Path]:
    """(change of the weights, tie_word_embeddings or "absent") -> a model folder."""

    def make(change: Callable[[Weights], None], tied: Any) -> Path:
        folder = Path(shutil.copytree(untied, tmp_path / "model"))
        weights = safetensors.torch.load_file(folder / WEIGHTS)
        change(weights)
        safetensors.torch.save_file(weights, folder / WEIGHTS, {"format": "pt"})
        config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": tied}
        if tied == "absent":
            del config["tie_word_embeddings"]
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return make


def theirs(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Embedding and head of the model that transformers loads."""
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder)
    return loaded.get_input_embeddings().weight.detach().numpy(), loaded.lm_head.weight.detach().numpy()


def opened(path: Path) -> tuple[Checkpoint, ModelSpec]:
    checkpoint = open_checkpoint(path)
    spec = read_config(checkpoint.config)
    check_weights(checkpoint, spec)
    return checkpoint, spec


def same_head_without_prefixes(weights: Weights) -> None:
    """As a model is saved without its head, and the head beside it."""
    weights[LM_HEAD] = weights[EMBEDDING].clone()
    for name in list(weights):
        weights[name.removeprefix("model.")] = weights.pop(name)


# change of the weights, tie_word_embeddings, tied in the end
READ: dict[str, tuple[Callable[[Weights], None], Any, bool]] = {
    "tied, no head": (no_head, True, True),
    "tied, the same head": (same_head, True, True),
    "tied, the same head, names without prefix": (same_head_without_prefixes, True, True),
    "tied, another head": (other_head, True, False),
    "tied, a head that differs in one number": (one_row_differs, True, False),
    "tied, a head and no embedding": (head_in_place_of_the_embedding, True, True),
    "untied, another head": (other_head, False, False),
    "untied, the same head": (same_head, False, False),
    "nothing said, another head": (other_head, "absent", False),
}


@pytest.mark.parametrize(("change", "said", "tied"), READ.values(), ids=READ.keys())
def test_heads_are_those_of_transformers(change, said, tied, model):
    folder = model(change, said)
    checkpoint, spec = opened(folder)
    assert spec.tied_embeddings is tied
    embedding, head = theirs(folder)
    np.testing.assert_array_equal(checkpoint.read(EMBEDDING), embedding)
    np.testing.assert_array_equal(checkpoint.read(EMBEDDING if tied else LM_HEAD), head)


@pytest.mark.parametrize("change", [other_head, one_row_differs])
def test_a_flag_that_the_tensors_contradict_is_said(change, model):
    (sentence,) = open_checkpoint(model(change, True)).warnings
    assert "lm_head.weight differs from model.embed_tokens.weight; both are used as they are" in sentence


def test_a_missing_head_is_not_made_up(model):
    """transformers fills such a head with random numbers."""
    with pytest.raises(ValueError, match=r"lm_head\.weight is missing, and tie_word_embeddings is false"):
        opened(model(no_head, False))


def test_a_missing_head_of_a_config_that_says_nothing(model):
    """llama.cpp takes the embedding, and no other meaning is left."""
    assert opened(model(no_head, "absent"))[1].tied_embeddings


def test_a_flag_that_is_no_flag(model):
    with pytest.raises(ValueError, match="tie_word_embeddings must be true or false, got 'true'"):
        opened(model(other_head, "true"))


def test_types_of_the_two_may_differ(model):
    """float16 holds the embedding's numbers here, so the two are one matrix."""

    def rounded(weights: Weights) -> None:
        weights[EMBEDDING] = weights[EMBEDDING].half().float()
        weights[LM_HEAD] = weights[EMBEDDING].half()

    assert opened(model(rounded, True))[1].tied_embeddings


@pytest.mark.parametrize("times", [1.0, 2.0])
def test_scales_of_the_two_count(times, model):
    """The same FP8 numbers with other scales are another matrix."""

    def quantised(weights: Weights) -> None:
        eight = (weights[EMBEDDING] * 100).clamp(-448, 448).to(torch.float8_e4m3fn)
        weights |= {EMBEDDING: eight, LM_HEAD: eight.clone()}
        weights |= {f"{EMBEDDING}_scale": torch.tensor(0.01), f"{LM_HEAD}_scale": torch.tensor(0.01 * times)}

    assert opened(model(quantised, True))[1].tied_embeddings is (times == 1)


def test_a_head_of_another_shape_is_refused(model):
    def shorter(weights: Weights) -> None:
        weights[LM_HEAD] = weights[EMBEDDING][:-1].clone()

    with pytest.raises(ValueError, match=r"lm_head\.weight has shape \(287, 200\), the config asks for \(288, 200\)"):
        opened(model(shorter, True))


def test_logits_of_an_untied_model_whose_flag_says_tied(model, tmp_path):
    """End to end: before, they were off by about four standard deviations."""
    folder = model(other_head, True)
    path = convert(folder, tmp_path / "bundle", weights="float32", prefill_chunks=(5,), progress=io.StringIO())
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    print("seed", SEED)
    tokens = np.random.default_rng(SEED).integers(3, 288, 17)
    with torch.inference_mode():
        wanted = loaded(torch.from_numpy(tokens)[None]).logits[0, -1].numpy()
    with Session.open(path, keep_ratio=1.0, cache_type="f32") as session:
        logits = session.prefill(tokens)
    assert np.abs(logits - wanted).max() < 1e-4 * np.abs(wanted).max()


def gguf_with(path: Path, folder: Path, output: np.ndarray | None, kind: str) -> Path:
    """A GGUF file of the model, whose output.weight is `output` in a type of its own, or missing."""
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder)
    state = loaded.state_dict()
    state.pop(LM_HEAD, None)
    loaded.state_dict = functools.partial(dict, state)
    tensors = {} if output is None else {"output.weight": output.astype(kind)}
    return write_gguf(path, loaded, tensors=tensors)


@pytest.mark.parametrize("kind", ["float32", "float16"])
@pytest.mark.parametrize("head", ["another", "the same", "none"])
def test_heads_of_gguf(head, kind, model, tmp_path):
    """llama.cpp uses output.weight where there is one, else the embedding."""
    folder = model(other_head, False)
    embedding, other = theirs(folder)
    output = {"another": other, "the same": embedding, "none": None}[head]
    path = gguf_with(tmp_path / "model.gguf", folder, output, kind)
    checkpoint, spec = opened(path)
    wanted = embedding if output is None else output.astype(kind).astype(np.float32)
    np.testing.assert_array_equal(checkpoint.read(EMBEDDING if spec.tied_embeddings else LM_HEAD), wanted)
    assert spec.tied_embeddings is (output is None)


def test_gguf_heads_of_another_quantisation(model, tmp_path):
    """Q8_0 beside float32: two matrices, whose values differ by rounding."""
    folder = model(same_head, True)
    embedding = theirs(folder)[0]
    padded = np.pad(embedding, ((0, 0), (0, 24)))
    quantised = gguf.quants.dequantize(
        gguf.quants.quantize(padded, gguf.GGMLQuantizationType.Q8_0), gguf.GGMLQuantizationType.Q8_0
    )[:, :200]
    path = gguf_with(tmp_path / "model.gguf", folder, quantised, "float32")
    checkpoint, spec = opened(path)
    assert not spec.tied_embeddings
    np.testing.assert_array_equal(checkpoint.read(LM_HEAD), quantised)
