"""`make bench-peers`: its plan, journal and tables; and every peer that is installed, on a tiny random model."""

import dataclasses
import io
import json
import os
from pathlib import Path
from typing import Any

import end_to_end
import gguf
import numpy as np
import pytest
from peers import files, models
from peers.journal import Cell, Journal, plan
from peers.systems import DEFAULT, system_named
from tiny_models import SEED, VOCAB, TinyModel, make_model

from shadowattn.converter.pipeline import convert

PEERS_DIR = Path(os.environ.get("PEERS_DIR", files.PEERS_DIR)).absolute()
POSITIONS, ROWS = 128, 32
SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}


@dataclasses.dataclass(frozen=True)
class Tiny:
    """A random model in the forms of all peers that are installed, as a bundle, and a text for its tokenizer."""

    model: TinyModel
    models: Path
    bundle: Path
    text: Path

    def words(self, out: Path, *systems: str) -> list[str]:
        """Of a command line."""
        return [
            *(f"--bundle={self.bundle}", f"--models={self.models}", f"--text={self.text}", f"--out={out}"),
            *(f"--systems={','.join(systems)}", "--lengths=32,64", "--rounds=2", "--decode_tokens=2", "--isa=auto"),
        ]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("peers")
    made = folder / "models"
    model = make_model(made / files.HUGGING_FACE, "llama", **SMALL)
    bundle = convert(
        model.path, folder / "tiny.bundle", weights="float32", prefill_chunks=(ROWS,), progress=io.StringIO()
    )
    (made / files.HUGGING_FACE / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')  # no bos, as dequantise()
    text = folder / "text.txt"
    print("seed", SEED)
    text.write_text(" ".join(f"w{number}" for number in np.random.default_rng(SEED).integers(3, VOCAB, 128)), "utf-8")
    return Tiny(model, made, bundle, text)


def make_form(peer: str, tiny: Tiny) -> None:
    """The peer's own form of the model."""
    source = tiny.models / files.HUGGING_FACE
    if peer.startswith("openvino") and not (tiny.models / files.OPENVINO).is_dir():
        models.export_openvino(PEERS_DIR, source, tiny.models / files.OPENVINO)
    if peer == "litert_lm":
        target = files.litert_lm_folder(tiny.models, POSITIONS)
        models.export_litert_lm(PEERS_DIR, source, target, (POSITIONS, ROWS))
    if peer == "llama_cpp":
        models.write_q8_0(source, tiny.models / files.GGUF_Q8_0)


@pytest.mark.parametrize("peer", [name for name in DEFAULT if name != "torch"])
def test_a_peer_answers_as_torch_does(peer: str, tiny: Tiny) -> None:
    if system_named(peer).interpreter(PEERS_DIR) is None:
        pytest.skip(f"peer not installed: {peer}")
    make_form(peer, tiny)
    one_run = ["--lengths=64", "--rounds=1", f"--peers_dir={PEERS_DIR}"]
    words = [*tiny.words(tiny.models / "finished", peer, "torch"), *one_run]  # in one journal: torch runs once
    found = end_to_end.measure(end_to_end.parse_arguments(words))
    assert found["failed"] == []
    assert [(row["prompt_tokens"], row["system"]) for row in found["rows"]] == [(64, peer), (64, "torch")]
    for row in found["rows"]:
        assert len(row["ttft_s_runs"]) == 1
        assert min(row["ttft_s"], row["decode_tok_s"], row["load_s"]) > 0
        assert row["peak_rss_bytes"] > 2**20
    assert all(row["same_first_token"] for row in found["rows"])
    assert all(system["version"] for system in found["systems"])


def test_gguf_has_the_weights_of_the_model(tiny: Tiny, tmp_path: Path) -> None:
    """q and k have llama.cpp's order of rows, whatever else is the same up to half a step of Q8_0."""
    path = tmp_path / "q8_0.gguf"
    models.write_q8_0(tiny.model.path, path)
    found = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in gguf.GGUFReader(path).tensors
    }
    state = {name: value.numpy() for name, value in tiny.model.model.state_dict().items()}
    assert len(found) == len(state)
    pairs = [*np.stack([np.arange(16), np.arange(16, 32)], 1).ravel()]  # of a head: RoPE turns i with i + 16
    for ours, theirs, order in (
        ("blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight", [*pairs, *(32 + n for n in pairs)]),
        ("blk.1.attn_k.weight", "model.layers.1.self_attn.k_proj.weight", pairs),
        ("blk.1.ffn_down.weight", "model.layers.1.mlp.down_proj.weight", slice(None)),
        ("token_embd.weight", "model.embed_tokens.weight", slice(None)),
        ("output_norm.weight", "model.norm.weight", slice(None)),
    ):
        want = state[theirs][order]
        step = np.abs(want).max() / 127 if want.ndim == 2 else 0.0
        assert np.abs(found[ours].reshape(want.shape) - want).max() <= step


def test_rounds_are_interleaved() -> None:
    cells = plan(["a", "b"], {8: 2, 16: 1})
    assert [(cell.round, cell.length, cell.system) for cell in cells] == [
        *((0, 8, "a"), (0, 8, "b"), (0, 16, "a"), (0, 16, "b")),
        *((1, 8, "b"), (1, 8, "a"), (1, 16, "b"), (1, 16, "a")),
        *((2, 8, "a"), (2, 8, "b")),
    ]


def test_a_journal_goes_on(tmp_path: Path) -> None:
    path, conditions = tmp_path / "runs" / "a.jsonl", {"isa": "avx2"}
    done, failed = Cell(1, 8, "a"), Cell(1, 8, "b")
    journal = Journal(path, conditions, force=False)
    journal.add(done, {"ttft_s": 1.5})
    journal.add(failed, {"failed": "no memory"})
    again = Journal(path, conditions, force=False)
    assert again.find(done) == {"round": 1, "length": 8, "system": "a", "ttft_s": 1.5}
    assert again.find(failed) is None
    with pytest.raises(ValueError, match=r"a\.jsonl: wanted .* got another isa; give --force"):
        Journal(path, {"isa": "avx512"}, force=False)
    assert Journal(path, {"isa": "avx512"}, force=True).find(done) is None
    with path.open("a") as file:
        file.write('{"round": 1, "len')
    with pytest.raises(ValueError, match=r"a\.jsonl:2: not a line of JSON .* remove it"):
        Journal(path, {"isa": "avx512"}, force=False)


class Fake:
    """In place of processes. A prompt takes each system as many seconds as its name has letters; `broken` fails."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def __call__(self, system: Any, setting: Any, tokens: Path, decode_tokens: int) -> dict[str, Any]:
        length = len(json.loads(tokens.read_text()))
        self.asked.append((system.name, length))
        if system.name == "llama_cpp":
            return {"failed": "ended by signal 11"}
        other = system.name == "openvino:xattention" and length == 64
        found = {"first_token": 8 if other else 7, "limits": "none", "facts": {"version": "1.0", "isa": "avx2"}}
        if decode_tokens:
            seconds = float(len(system.name))
            found |= {"ttft_s": seconds, "decode_tok_s": 10.0, "load_s": 0.5, "peak_rss_bytes": 2**20}
        return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder where OpenVINO and llama.cpp seem to be installed, and LiteRT-LM is not."""
    for name in ("openvino", "llama_cpp"):
        (tmp_path / "peers" / f"venv_{name}").mkdir(parents=True)
        (tmp_path / "peers" / f"venv_{name}" / ".installed").touch()
    return tmp_path / "peers"


def test_the_table_names_what_is_missing_and_what_differs(
    tiny: Tiny, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = Fake()
    monkeypatch.setattr(end_to_end, "run_system", fake)
    words = [*tiny.words(tmp_path / "out" / "peers", *DEFAULT), f"--peers_dir={installed}"]
    assert end_to_end.main(words) == 1  # something failed
    assert fake.asked.count(("llama_cpp", 32)) == 1  # who cannot answer is not timed
    assert fake.asked.count(("torch", 64)) == 3
    out = capsys.readouterr()
    assert "bench-peers: FAILED llama_cpp: ended by signal 11" in out.err
    text = (tmp_path / "out" / "peers.md").read_text()
    assert text == out.out.removesuffix(f"\nwrote {tmp_path / 'out' / 'peers.md'}\n")
    assert "| shadowattn, default | 10 (1.00) | 10 (1.00) | 10 | 1 |" in text
    assert "| OpenVINO GenAI, XAttention (sparse) | 19 (1.90) | 19 (1.90) * | 10 | 1 |" in text
    assert "| LiteRT-LM | not installed | not installed | - | - |" in text
    assert "| llama.cpp, flash attention | failed | failed | - | - |" in text
    assert "another one (*) for openvino:xattention at 64 (8, not 7)." in text
    assert "Failed: llama_cpp at 32 tokens: ended by signal 11." in text
    result = json.loads((tmp_path / "out" / "peers.json").read_text())
    assert result["machine"]["processor"] in text
    assert result["isa"] == "avx2"


def test_a_stopped_run_goes_on(
    tiny: Tiny, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = Fake()

    def stopping(*arguments: Any) -> dict[str, Any]:
        if len(fake.asked) == 7:
            raise KeyboardInterrupt
        return fake(*arguments)

    monkeypatch.setattr(end_to_end, "run_system", stopping)
    words = [*tiny.words(tmp_path / "peers", "shadowattn", "torch"), f"--peers_dir={installed}"]
    assert end_to_end.main(words) == 130
    assert "stopped; the same command goes on from here" in capsys.readouterr().err
    monkeypatch.setattr(end_to_end, "run_system", fake)
    assert end_to_end.main(words) == 0
    assert len(fake.asked) == 12  # two systems, two lengths, answers and two rounds
    assert end_to_end.main([*words, "--rounds=3"]) == 0
    assert len(fake.asked) == 16
    assert end_to_end.main([*words, "--force"]) == 0
    assert len(fake.asked) == 28


def test_systems_are_known_by_name() -> None:
    assert system_named("shadowattn:int8").variant == "int8"
    with pytest.raises(ValueError, match=r"--systems: wanted some of shadowattn, .*; got 'ollama'"):
        system_named("ollama")


def test_the_smallest_cache_that_fits(tmp_path: Path) -> None:
    for positions in (576, 2112):
        folder = files.litert_lm_folder(tmp_path, positions)
        folder.mkdir()
        (folder / "model.litertlm").touch()
    assert files.litert_lm_file(tmp_path, 545).parent.name == "litert_lm_576"
    assert files.litert_lm_file(tmp_path, 577).parent.name == "litert_lm_2112"
    with pytest.raises(ValueError, match=r"holds 4,129 positions, got caches of \[576, 2112\]"):
        files.litert_lm_file(tmp_path, 4129)
