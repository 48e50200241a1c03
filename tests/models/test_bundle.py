"""The manifest: round trip, strict schema, sizes at open, hashes on request."""

import json
from pathlib import Path

import pytest

from shadowattn.models import bundle
from shadowattn.models.bundle import FileInfo, Graph, Manifest, TensorInfo, Tokenizer
from shadowattn.models.estimate_graphs import EstimateKey
from shadowattn.models.spec import ModelSpec, RopeSpec

SPEC = ModelSpec("llama", 10, 8, 8, 2, 4, 2, 8, 1e-5, RopeSpec(1e4), 100, True)


def linear_graphs(chunk: int) -> list[Graph]:
    q = {"q": TensorInfo("float32", (1, chunk, 4, 8))}
    return [Graph(f"linear_{layer}_{chunk}", "linear", chunk, {}, q, layer=layer) for layer in range(3)]


def write_bundle(folder: Path) -> Manifest:
    """A bundle whose files are a few bytes: enough for everything that the manifest says."""
    files = {"model.tflite": b"model", "plan.bin": b"plan!", "estimates.zip": b"zip"}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    tensors = {"tokens": TensorInfo("int32", (1, 16))}
    graphs = (
        Graph("decode", "decode", 1, tensors, {"logits": TensorInfo("float32", (1, 10))}),
        Graph("prefill_16", "prefill", 16, tensors, {}),
        Graph("score_64", "score", 64, tensors, {}),
        *(graph for chunk in (1, 16) for graph in linear_graphs(chunk)),
    )
    manifest = Manifest(
        created_by="test",
        name="tiny",
        source="nowhere",
        licence="none",
        weights="float32",
        model=SPEC,
        max_length=100,
        keep_ratio=0.2,
        prefill_chunks=(16,),
        score_rows=64,
        seq_lens=(128,),
        graphs=graphs,
        estimates=("estimate_16_128_1_0", "estimate_16_128_4_9"),
        tokenizer=Tokenizer(None, None, None, (1,), {}),
        calibration={"tokens": 3},
        files={name: bundle.file_info(folder / name) for name in files},
    )
    (folder / bundle.MANIFEST).write_text(manifest.to_json())
    return manifest


def test_round_trip(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path)
    assert bundle.read_manifest(tmp_path) == manifest
    assert manifest.estimate_keys() == (EstimateKey(16, 128, 1, 0), EstimateKey(16, 128, 4, 9))
    with pytest.raises(ValueError, match="no graph 'prefill_17'"):
        manifest.graph("prefill_17")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["format"], "x", "not the manifest of a bundle"),
        (["version"], 2, r"manifest\.json: bundle version 2, wanted 3; convert the model again$"),
        (["version"], 4, "bundle version 4, wanted 3; update shadowattn$"),
        (["version"], "3", "bundle version '3', wanted 3; update shadowattn$"),
        (["weights"], "int3", "weights must be int8 or float32"),
        (["weights"], None, "weights: expected str, got None"),
        (["keep_ratio"], 0, r"keep_ratio must be null \(auto\) or in \(0, 1\], got 0"),
        (["keep_ratio"], 1.5, r"keep_ratio must be null \(auto\) or in \(0, 1\], got 1.5"),
        (["keep_ratio"], "0.2", "keep_ratio: expected float"),
        (["surprise"], 1, "unknown field 'surprise'"),
        (["prefill_chunks"], [16, 16], "must ascend"),
        (["prefill_chunks"], [32], "graph 'prefill_32' is missing"),
        (["model", "num_heads"], True, "num_heads: expected int"),
        (["graphs", 0, "signature"], "decoder", "follows no known pattern"),
        (["graphs", 2, "chunk"], 32, "its name says"),
        (["max_length"], 0, "max_length must be in"),
        (["max_length"], 129, "max_length 129 is above the last of seq_lens, 128"),
        (["max_length"], 10**30, "max_length must be in"),
        (["seq_lens"], [], "seq_lens is empty"),
        (["seq_lens"], [128, 64], "seq_lens must ascend"),
        (["seq_lens"], [0, 128], "seq_lens must ascend from 1"),
        (["score_rows"], 0, "score_rows must be positive"),
        (["score_rows"], 63, "graph 'score_63' is missing"),
        (["model", "num_layers"], 1, "graph 'linear_2_1' is of a layer"),
        (["model", "num_layers"], 3, "graph 'linear_3_1' is missing"),
        (["model", "num_layers"], 2**31 - 1, r"manifest\.json: model: num_layers must be in 1\.\.1024"),
        (["model", "vocab_size"], 50, r"decode: logits has the shape \(1, 10\), the model's ends in \(50,\)"),
        (["model", "num_heads"], 8, r"linear_0_1: q has the shape \(1, 1, 4, 8\), the model's ends in \(8, 8\)"),
        (["model", "num_kv_heads"], 0, r"manifest\.json: model: num_kv_heads must be in 1\.\."),
        (["model", "rope", "theta"], 10**400, "theta: expected a float, got 1329 bits"),
        (["graphs", 0, "inputs", "tokens", "shape"], [1, 0], "decode: tokens has the shape"),
        (["tokenizer", "file"], "tok.json", "not in files"),
        (["tokenizer", "chat_adds_bos"], True, "chat_adds_bos needs a bos_token_id"),
        (["sampling", "temperature"], -1, r"manifest\.json: sampling: temperature must be 0 or positive, got -1"),
        (["sampling", "top_k"], 0.5, "top_k: expected int, got 0.5"),
        (["sampling", "top_p"], 0, r"top_p must be in \(0, 1\], got 0"),
        (["sampling", "repetition_penalty"], 0, "repetition_penalty must be positive, got 0"),
        (["files", "plan.bin", "bytes"], 4, "expected 4 bytes, got 5"),
        (["files", "../x"], {"bytes": 1, "sha256": ""}, "leaves the bundle"),
        (["estimates"], [], "estimates and the file estimates.zip go together"),
        (["estimates"], ["estimate_16_128_4_0"] * 2, "names a graph twice"),
        (["estimates"], ["estimate_16_128_4"], "wanted estimate_<T>"),
        (["estimates"], ["estimate_1_128_4_0"], "'estimate_1_128_4_0' is of a chunk or a bucket length"),
        (["estimates"], ["estimate_16_64_4_0"], "'estimate_16_64_4_0' is of a chunk or a bucket length"),
        (["estimates"], ["estimate_16_128_3_0"], "3 heads are neither"),
        (["estimates"], [1], "expected str, got 1"),
        (["files", "more.bin"], {"bytes": 1, "sha256": ""}, "more.bin is missing"),
    ],
)
def test_an_edited_manifest_is_refused(tmp_path: Path, path: list, value: object, message: str) -> None:
    write_bundle(tmp_path)
    raw = json.loads((tmp_path / bundle.MANIFEST).read_text())
    at = raw
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    (tmp_path / bundle.MANIFEST).write_text(json.dumps(raw))
    with pytest.raises(ValueError, match=message):
        bundle.read_manifest(tmp_path)


def test_missing_fields_are_named(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    raw = json.loads((tmp_path / bundle.MANIFEST).read_text())
    for name in [key for key in raw if key not in ("format", "version")]:
        (tmp_path / bundle.MANIFEST).write_text(json.dumps({key: raw[key] for key in raw if key != name}))
        with pytest.raises(ValueError, match=f"field '{name}' is missing"):
            bundle.read_manifest(tmp_path)


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shadowattn convert"):
        bundle.read_manifest(tmp_path)
    (tmp_path / bundle.MANIFEST).write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        bundle.read_manifest(tmp_path)


def test_hashes_find_what_sizes_do_not(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path)
    assert bundle.verify(tmp_path, manifest) == []
    (tmp_path / "plan.bin").write_bytes(b"plan?")
    problems = bundle.verify(tmp_path, bundle.read_manifest(tmp_path))
    assert len(problems) == 1
    assert "SHA-256" in problems[0]


def test_signature_grammar() -> None:
    assert bundle.parse_signature("linear_3_8") == {"role": "linear", "chunk": 8, "layer": 3}
    for wrong in (
        "kv_append_8_1024",
        "estimate_8_1024",
        "attend_8_1024",
        "prefill",
        "prefill_",
        "prefill_1x",
        "decode_1",
        "linear_3",
        "",
    ):
        with pytest.raises(ValueError, match="no known pattern"):
            bundle.parse_signature(wrong)


def test_file_info(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert bundle.file_info(tmp_path / "a") == FileInfo(3, digest)
