"""`shadowattn bench`, and the comparison of two settings below it."""

import json
from pathlib import Path

import numpy as np
import pytest
from cli_runner import run, run_process, write_speaking_bundle
from tiny_bundle import write_tiny_bundle
from tiny_tokenizer import byte_level_tokenizer

from shadowattn.runtime.commands import bench
from shadowattn.runtime.measure.comparison import SessionProcess, difference
from shadowattn.runtime.session.session import Session

CHATML_OF_ONE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def shared_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaking_bundle(tmp_path_factory.mktemp("bench") / "tiny.bundle")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "wanted a bundle"),
        (["b", "--prompt_lengths=a,5"], "--prompt_lengths: wanted positive numbers such as 512,4096, got 'a,5'"),
        (["b", "--prompt_lengths=0"], "wanted positive numbers"),
        (["b", "--prompt_lengths="], "wanted positive numbers"),
        (["b", "--runs=0"], "0 is not a positive integer"),
        (["b", "--mode=dense"], "wanted a sparse --mode, got dense"),
        (["b", "--chat"], "--chat needs --prompt_file"),
        (["b", "--prompt_file=x", "--text=y"], "--prompt_file is one prompt"),
        (["b", "--prompt_file=x", "--prompt_lengths=5"], "--prompt_file is one prompt"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    outcome = run(capsys, "bench", *args)
    assert outcome.code == 2
    assert message in outcome.error


MORE = "decode steps need more than the 256 positions of a session"
LENGTH = ("--prompt_lengths=100", "--decode_tokens=4", "--text=F")


@pytest.mark.parametrize(
    ("text", "args", "message"),
    [
        (None, ("--prompt_lengths=240", "--decode_tokens=20"), f"240 tokens and 20 {MORE}"),
        ("short", LENGTH, "F: wanted at least 104 tokens, got 5; give a longer text"),
        ("short", ("--mute", *LENGTH), "has no tokenizer, so --text cannot be used"),
        *(("x" * count, ("--prompt_file=F",), f"{count} tokens and 32 {MORE}") for count in (300, 250)),
    ],
)
def test_prompts_that_do_not_do(
    capsys: pytest.CaptureFixture[str], shared_bundle: Path, tmp_path: Path, text: str | None, args: tuple[str, ...],
    message: str,
) -> None:  # fmt: skip
    """F: a file of the text; --mute: a bundle without a tokenizer."""
    bundle, file = shared_bundle, tmp_path / "F"
    file.write_text(text or "")
    if "--mute" in args:
        write_tiny_bundle(bundle := tmp_path / "mute")
    outcome = run(capsys, "bench", bundle, *(word.replace("=F", f"={file}") for word in args if word != "--mute"))
    assert outcome.code == 1
    assert message in outcome.error


def test_settings_are_interleaved() -> None:
    turns = list(bench._interleaved(3))
    assert [name for _, name in turns] == ["dense", "sparse", "sparse", "dense", "dense", "sparse"]
    assert [turn for turn, _ in turns] == [0, 0, 1, 1, 2, 2]


def test_difference_of_distributions() -> None:
    random = np.random.default_rng(1)
    logits = random.standard_normal((5, 50)).astype(np.float32)
    same = difference(logits, logits + 3)  # a shift changes no distribution
    assert same.kl_mean == pytest.approx(0, abs=1e-9)
    assert (same.same_top_token, same.positions) == (1.0, 5)
    p, q = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])
    wanted = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert difference(np.log(p), np.log(q)).kl_max == pytest.approx(wanted)


def test_a_failure_in_the_child_is_raised_here(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"sparse run: .*manifest\.json is missing"):
        SessionProcess("sparse", tmp_path, {})


def test_a_child_that_is_killed_is_named(shared_bundle: Path) -> None:
    with SessionProcess("dense", shared_bundle, {}) as process:
        process._process.kill()
        with pytest.raises(RuntimeError, match=r"the dense run ended without an answer \(exit code -9;"):
            process.run([1, 2], [3])


@pytest.mark.parametrize("speaking", [True, False])
def test_table_and_json(shared_bundle: Path, tmp_path: Path, speaking: bool) -> None:
    bundle = shared_bundle
    if not speaking:
        bundle = tmp_path / "mute"
        write_tiny_bundle(bundle)
    args = ["--prompt_lengths=200,100", "--runs=3", "--decode_tokens=4", "--keep_ratio=0.1"]
    outcome = run_process("bench", bundle, "--json", *args)
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["text"] == ("pydoc_data.topics" if speaking else "random token ids")
    assert [row["prompt_tokens"] for row in report["rows"]] == [100, 200]
    row = report["rows"][1]
    assert len(row["dense"]["ttft_s_runs"]) == 3
    assert row["dense"]["ttft_s"] == sorted(row["dense"]["ttft_s_runs"])[1]
    assert row["dense"]["mean_keep_ratio"] == 1.0
    assert 0.12 < row["sparse"]["mean_keep_ratio"] < 0.5  # rows of up to 64 positions read all of them
    assert row["positions"] == 5
    assert row["kl_max"] >= row["kl_mean"] > 0
    assert row["sparse"]["peak_rss_bytes"] > 2**20
    for setting in ("dense", "sparse"):
        ops = report["custom_ops"][setting]
        assert {"prefill_16", "decode"} <= {entry["signature"] for entry in ops}
        assert all(entry["runner"] == "shadow" and entry["nodes"] == 2 for entry in ops)
    if speaking:
        table = run_process("bench", bundle, *args)
        assert "at keep_ratio 0.1; medians of 3 runs interleaved; text: pydoc_data.topics" in table.out
        assert "peak RSS sparse MiB" in table.out
        assert "Custom op nodes (sparse): all 4 by the delegate, nothing fell back (decode, prefill_16)." in table.out


def test_one_prompt_as_it_is_asked(shared_bundle: Path, tmp_path: Path) -> None:
    prompt = tmp_path / "question.txt"
    prompt.write_text("What is it? " * 12)
    args = ["--chat", f"--prompt_file={prompt}", "--runs=1", "--decode_tokens=3", "--json"]
    outcome = run_process("bench", shared_bundle, *args)
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["text"] == f"{prompt} as a chat"
    with Session.open(shared_bundle, mode="dense") as session:
        token_ids = byte_level_tokenizer().encode(CHATML_OF_ONE.format(prompt.read_text())).ids
        assert report["rows"][0]["prompt_tokens"] == len(token_ids)
        greedy = [int(session.prefill(token_ids).argmax())]
        for _ in range(2):
            greedy.append(int(session.decode(greedy[-1]).argmax()))
    with SessionProcess("dense", shared_bundle, {"mode": "dense"}) as process:
        assert process.run(token_ids, 3).decoded == tuple(greedy)
        assert process.run(token_ids, (5, 6)).decoded == (5, 6)
