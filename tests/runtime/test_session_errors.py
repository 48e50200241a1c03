"""Bad input to the runtime: each case ends in one clear sentence, and the session goes on."""

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shadowattn.models.bundle import MANIFEST, MODEL, file_info
from shadowattn.models.plan import FILE_NAME as PLAN
from shadowattn.runtime import Session
from shadowattn.runtime.executor.engine import num_engines
from shadowattn.runtime.pipeline.executor import choose_bucket


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep_ratio": 0.0}, r"keep_ratio must be auto or in \(0, 1\], got 0.0"),
        ({"keep_ratio": math.nan}, r"keep_ratio must be auto or in \(0, 1\], got nan"),
        ({"keep_ratio": 1.01}, r"keep_ratio must be auto or in \(0, 1\], got 1.01"),
        ({"keep_ratio": "0.2"}, r"keep_ratio must be auto or in \(0, 1\]"),
        ({"keep_ratio": True}, r"keep_ratio must be auto or in \(0, 1\], got True"),
        ({"keep_ratio": np.float64(2)}, r"keep_ratio must be auto or in \(0, 1\], got 2.0"),
        ({"max_skipped_mass": 1.0}, r"max_skipped_mass must be a share in \[0, 1\), got 1.0; 0 scores every page"),
        ({"max_skipped_mass": -0.01}, r"max_skipped_mass must be a share in \[0, 1\), got -0.01"),
        ({"max_skipped_mass": math.nan}, r"max_skipped_mass must be a share in \[0, 1\), got nan"),
        ({"threshold": 1.0}, r"threshold must be a probability in \[0, 1\), got 1.0; 0 switches it off"),
        ({"threshold": -0.5}, r"threshold must be a probability in \[0, 1\), got -0.5"),
        ({"threshold": math.nan}, r"threshold must be a probability in \[0, 1\), got nan"),
        ({"threshold": "auto"}, r"threshold must be a probability in \[0, 1\), got 'auto'"),
        ({"compensate": "on"}, "compensate must be True or False, got 'on'"),
        ({"compensate": 1}, "compensate must be True or False, got 1"),
        ({"min_k": True}, "min_k must be an integer of at least 1, got True"),
        ({"mode": "fast"}, "mode must be one of shadow, dense, int8, shadow_paper, .*, npu_full, got 'fast'"),
        ({"executor": "parallel"}, "executor must be one of fused, pipelined, got 'parallel'"),
        ({"cache_type": "f8"}, "cache_type must be one of f16, f32, got 'f8'"),
        ({"min_k": 0}, "min_k must be an integer of at least 1, got 0"),
        ({"sinks": -1}, "sinks must be an integer of at least 0, got -1"),
        ({"latest": 2.5}, "latest must be an integer of at least 0, got 2.5"),
        ({"max_length": 0}, "max_length must be an integer of at least 1, got 0"),
        ({"max_length": 257}, "max_length must be at most the bundle's 256, got 257"),
        ({"num_threads": 0}, "num_threads must be an integer from 1 to 64, got 0"),
        ({"num_threads": 65}, "num_threads must be an integer from 1 to 64, got 65"),
        ({"num_threads": "2"}, "num_threads must be an integer from 1 to 64"),
        ({"isa": "sse9"}, "isa must be one of auto, scalar"),
    ],
    ids=str,
)
def test_open_refuses(tiny: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Session.open(tiny, **arguments)  # type: ignore[arg-type]
    assert num_engines() == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.prefill([]), "the prompt is empty"),
        (lambda s: s.prefill([1, 2, 97]), "token id 97 at index 2 is outside the vocabulary of 97"),
        (lambda s: s.prefill([-1]), "token id -1 at index 0 is outside the vocabulary of 97"),
        (lambda s: s.prefill([2**40]), f"token id {2**40} at index 0"),
        (lambda s: s.prefill([1] * 254), "254 tokens do not fit: 3 of 256 positions are used"),
        (lambda s: s.decode(97), "token id 97 at index 0 is outside the vocabulary of 97"),
        (lambda s: s.rewind(4), "rewind to 4: must be an integer between 0 and the session's length 3"),
        (lambda s: s.rewind(-1), "rewind to -1: must be an integer between 0 and"),
        (lambda s: s.rewind(1.0), r"rewind to 1\.0: must be an integer"),  # type: ignore[arg-type]
        (lambda s: s.rewind(True), "rewind to True: must be an integer"),
        (lambda s: s.rewind("1"), "rewind to '1': must be an integer"),  # type: ignore[arg-type]
        (lambda s: s.score([1]), "score needs at least 2 tokens, got 1"),
        (lambda s: s.score([]), "the prompt is empty"),
        (lambda s: s.prepare(254), "254 tokens do not fit: 3 of 256"),
        (lambda s: s.configure(mode="other"), "mode must be one of"),
    ],
)
def test_calls_refuse_and_change_nothing(tiny: Path, call: Callable[[Session], object], message: str) -> None:
    with Session.open(tiny) as session:
        session.prefill([5, 6, 7])
        with pytest.raises(ValueError, match=message):
            call(session)
        assert session.tokens == [5, 6, 7]
        session.decode(8)


def test_token_ids_must_be_integers(tiny: Path) -> None:
    with Session.open(tiny) as session:
        with pytest.raises(ValueError, match=r"token ids must be integers, got 1\.5 at index 0"):
            session.prefill([1.5])  # type: ignore[list-item]
        session.prefill(np.array([1, 2], np.int64))  # type: ignore[arg-type]
        assert session.tokens == [1, 2]


def test_decode_before_prefill(tiny: Path) -> None:
    with Session.open(tiny) as session, pytest.raises(ValueError, match="decode before prefill"):
        session.decode(1)


def test_a_closed_session(tiny: Path) -> None:
    session = Session.open(tiny)
    session.prefill([1])
    session.close()
    session.close()
    for call in (lambda: session.prefill([1]), lambda: session.decode(1), session.reset, session.stats):
        with pytest.raises(ValueError, match="the session is closed"):
            call()
    assert num_engines() == 0


def test_the_cache_can_be_filled_to_the_end(tiny: Path) -> None:
    with Session.open(tiny, max_length=21) as session:
        session.prefill([1] * 20)
        session.decode(1)
        with pytest.raises(ValueError, match="1 tokens do not fit: 21 of 21"):
            session.decode(1)
        assert session.length == 21


# --- damaged bundles ---


def _no_model(bundle: Path) -> None:
    (bundle / MODEL).unlink()


def _cut_model(bundle: Path) -> None:
    data = (bundle / MODEL).read_bytes()
    (bundle / MODEL).write_bytes(data[: len(data) // 2])


def _not_a_model(bundle: Path) -> None:
    _replace_model(bundle, b"not a flatbuffer at all" * 100)


def _no_manifest(bundle: Path) -> None:
    (bundle / MANIFEST).unlink()


def _future_manifest(bundle: Path) -> None:
    _edit(bundle, lambda manifest: manifest.update(version=99))


def _unknown_field(bundle: Path) -> None:
    _edit(bundle, lambda manifest: manifest.update(colour="red"))


def _other_shape(bundle: Path) -> None:
    def change(manifest: dict) -> None:  # type: ignore[type-arg]
        manifest["graphs"][0]["inputs"]["tokens"]["shape"] = [1, 5]

    _edit(bundle, change)


def _other_input(bundle: Path) -> None:
    def change(manifest: dict) -> None:  # type: ignore[type-arg]
        inputs = manifest["graphs"][0]["inputs"]
        inputs["ids"] = inputs.pop("tokens")

    _edit(bundle, change)


def _missing_signature(bundle: Path) -> None:
    def change(manifest: dict) -> None:  # type: ignore[type-arg]
        manifest["graphs"].append(manifest["graphs"][0] | {"signature": "prefill_999", "chunk": 999})

    _edit(bundle, change)


def _damaged_plan(bundle: Path) -> None:
    data = bytearray((bundle / PLAN).read_bytes())
    data[40] ^= 255
    (bundle / PLAN).write_bytes(data)


def _edit(bundle: Path, change: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    manifest = json.loads((bundle / MANIFEST).read_text())
    change(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def _replace_model(bundle: Path, data: bytes) -> None:
    (bundle / MODEL).write_bytes(data)
    info = dataclasses.asdict(file_info(bundle / MODEL))
    _edit(bundle, lambda manifest: manifest["files"].update({MODEL: info}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_model, "model.tflite is missing; convert the model again"),
        (_cut_model, "expected .* bytes, got .*; the file was changed or truncated"),
        (_not_a_model, "LiteRT cannot open it .*; convert the model again"),
        (_no_manifest, "not a bundle, manifest.json is missing"),
        (_future_manifest, "bundle version 99, wanted 3; update shadowattn"),
        (_unknown_field, "unknown field 'colour'"),
        (_other_shape, "inputs of 'prefill_4' are .*, the manifest says"),
        (_other_input, "inputs of 'prefill_4' are"),
        (_missing_signature, "lacks the signature 'prefill_999'"),
        (_damaged_plan, "plan.bin"),
    ],
)
def test_a_damaged_bundle(tiny: Path, tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny, bundle)
    damage(bundle)
    with pytest.raises(ValueError, match=message):
        Session.open(bundle)
    assert num_engines() == 0


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a bundle"):
        Session.open(tmp_path / "nothing")


@pytest.mark.parametrize("what", [None, 3, b"bundle", "", "a\0b", ["bundle"], {"path": "bundle"}])
def test_what_is_no_path(what: object) -> None:
    with pytest.raises(ValueError, match=r"wanted the path of a bundle's folder \(a str or a Path\), got "):
        Session.open(what)  # type: ignore[arg-type]


def test_a_file_instead_of_a_folder(tiny: Path, tmp_path: Path) -> None:
    for name in ("manifest.json", "model.tflite"):
        with pytest.raises(ValueError, match=f"{name}: one file of a bundle, wanted its folder; give "):
            Session.open(tiny / name)
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    with pytest.raises(ValueError, match=r"tiny\.gguf: not a bundle but a file, .*make one with `shadowattn convert`"):
        Session.open(tmp_path / "tiny.gguf")
    with pytest.raises(ValueError, match=r"not a bundle, manifest\.json is missing"):
        Session.open("a" * 5000)


def test_a_bundle_without_linear_graphs(tiny: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny, bundle)

    def change(manifest: dict) -> None:  # type: ignore[type-arg]
        fused = ("prefill", "decode", "score")
        manifest["graphs"] = [graph for graph in manifest["graphs"] if graph["role"] in fused]

    _edit(bundle, change)
    with pytest.raises(ValueError, match="no linear graphs for the pipelined executor"):
        Session.open(bundle, executor="pipelined")
    with Session.open(bundle) as session:
        session.prefill([1, 2, 3])


def test_buckets() -> None:
    assert [choose_bucket((64, 256), length) for length in (1, 64, 65, 256)] == [64, 64, 256, 256]
    with pytest.raises(ValueError, match="no bucket holds 257 positions"):
        choose_bucket((64, 256), 257)
