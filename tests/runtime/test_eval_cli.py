"""`shadowattn eval`: flags, what is wrong with them, and where the results go."""

import json
from pathlib import Path

import pytest
from cli_runner import run, run_process, write_speaking_bundle

from shadowattn.runtime.evaluate import plots
from shadowattn.runtime.evaluate.options import DENSE, EvalOptions, Variant

ROW_KEYS = {
    *("task", "text", "window", "mode", "keep_ratio", "mean_keep_ratio", "tokens", "perplexity", "change_percent"),
    *("loss_change_stderr", "kl_mean", "kl_p99", "same_top", "seconds", "base"),
}


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaking_bundle(tmp_path_factory.mktemp("eval") / "tiny.bundle")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "wanted a bundle"),
        (["b", "--modes=dense,fast"], "--modes: wanted some of shadow, dense"),
        (["b", "--modes=dense,fast"], "got 'fast'"),
        (["b", "--modes=shadow@2"], "--modes: wanted a keep_ratio in (0, 1] or auto, got '2'"),
        (["b", "--modes=shadow:compensate"], "--modes: wanted shadow or shadow:uncompensated, got 'shadow:compensate'"),
        (["b", "--modes="], "--modes: wanted at least one, got none"),
        (["b", "--keep_ratios=0"], "--keep_ratios: wanted numbers in (0, 1] or auto, got 0.0"),
        (["b", "--keep_ratios=nan"], "--keep_ratios: wanted numbers in (0, 1] or auto, got nan"),
        (["b", "--keep_ratios=1.5"], "got 1.5"),
        (["b", "--keep_ratios=a,b"], "--keep_ratios: wanted numbers with commas between, got 'a,b'"),
        (["b", "--tasks=speed"], "--tasks: wanted some of perplexity, needle, greedy, heads, estimate, got 'speed'"),
        (["b", "--window=1"], "--window: wanted at least 2, got 1"),
        (["b", "--stride=100"], "--stride: wanted at most --window"),
        (["b", "--stride=0", "--window=10"], "--stride: wanted at least 1, got 0"),
        (["b", "--window=100", "--max_tokens=50"], "--max_tokens: wanted at least one --window of 100, got 50"),
        (["b", "--skip_tokens=-1"], "--skip_tokens: wanted at least 0, got -1"),
        (["b", "--needle_lengths=0"], "--needle_lengths: wanted at least 1, got 0"),
        (["b", "--needle_lengths=x"], "--needle_lengths: wanted numbers with commas between, got 'x'"),
        (["b", "--needle_depths=1.5"], "--needle_depths: wanted numbers from 0 to 1, got 1.5"),
        (["b", "--prompts=0"], "--prompts: wanted at least 1, got 0"),
        (["b", "--report=/no/such/folder/x.json"], "--report: wanted a file in a folder that exists, got"),
        (["b", "--json=x.json"], "flag --json=x.json: it takes no value, got 'x.json'"),
        (["b", f"--plots={__file__}"], "--plots: wanted a folder, got the file"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    outcome = run(capsys, "eval", *args)
    assert outcome.code == 2
    assert message in outcome.error


def test_what_does_not_fit(capsys: pytest.CaptureFixture[str], speaking: Path, tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "short.txt").write_text("short")
    for args, message in (
        ([f"--text={tmp_path}/short.txt"], "short.txt: wanted at least 256 tokens (--window), got 5; give a longer"),
        ([f"--text={tmp_path}/none.txt"], f"{tmp_path}/none.txt: No such file or directory"),
        (["--window=300"], "--window: wanted at most the 256 positions of a session, got 300"),
        (["--tasks=greedy"], "--prompt_tokens, --continue_tokens: wanted at most the 256 positions"),
        (["--tasks=needle"], "--needle_lengths: none of the usual ones fits 232 positions"),
    ):
        outcome = run(capsys, "eval", speaking, "--modes=shadow", *args)
        assert outcome.code == 1
        assert message in outcome.error
    outcome = run(capsys, "eval", tiny, f"--text={tmp_path}/short.txt")
    assert "has no tokenizer, so --text cannot be used" in outcome.error


def test_variants() -> None:
    options = EvalOptions(modes=("shadow", "shadow:uncompensated", "dense"), keep_ratios=("auto", 0.1))
    assert options.variants() == (
        DENSE,
        *(Variant("shadow", "auto"), Variant("shadow", 0.1)),
        *(Variant("shadow", "auto", False), Variant("shadow", 0.1, False)),
    )
    assert Variant("shadow", "auto").session_options() == {"mode": "shadow", "keep_ratio": "auto"}
    own = EvalOptions(
        modes=("shadow_paper", "shadow_paper@0.2", "shadow:uncompensated@0.1"), keep_ratios=("auto", 0.05)
    )
    assert own.variants()[1:] == (
        *(Variant("shadow_paper", 0.05), Variant("shadow_paper", 0.2)),
        Variant("shadow", 0.1, False),
    )
    silent = Variant("shadow", 0.1, False)
    assert silent.session_options() == {"mode": "shadow", "keep_ratio": 0.1, "compensate": False}
    assert (silent.label, silent.name) == ("shadow:uncompensated", "shadow:uncompensated 0.1")


def test_json_and_tables(speaking: Path, tmp_path: Path) -> None:
    args = ["--modes=shadow", "--keep_ratios=auto,0.1", "--window=100", "--max_tokens=200", "--num_threads=1"]
    outcome = run_process("eval", speaking, *args, "--json")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert [(row["mode"], row["keep_ratio"]) for row in report["rows"]] == [
        *(("dense", None), ("shadow", "auto"), ("shadow", 0.1))
    ]
    assert all(set(row) == ROW_KEYS for row in report["rows"])
    (text,) = report["texts"]
    assert (text["file"], text["tokens"], len(text["sha256"])) == ("pydoc_data.topics", 200, 64)
    assert (report["model"], report["num_threads"], report["settings"]["window"]) == ("tiny", 1, 100)
    path = tmp_path / "report.json"
    table = run_process("eval", speaking, *args, f"--report={path}")
    assert "Perplexity: pydoc_data.topics, 198 predicted tokens in windows of 100" in table.out
    assert "shadow  auto" in table.out
    written = json.loads(path.read_text())
    for row in (*written["rows"], *report["rows"]):
        del row["seconds"]
    assert written["rows"] == report["rows"]


def test_pictures_without_matplotlib(
    speaking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plots, "can_plot", lambda: False)
    outcome = run(capfd, "eval", speaking, "--modes=shadow", "--max_tokens=100", f"--plots={tmp_path}/pictures")
    assert outcome.code == 1
    assert "--plots needs matplotlib, which is not installed; install it with: pip install matplotlib" in (outcome.err)
    assert "Perplexity: pydoc_data.topics, 99 predicted tokens in windows of 100" in outcome.out
    assert not (tmp_path / "pictures").exists()


def test_pictures(speaking: Path, tmp_path: Path) -> None:
    args = ["--modes=shadow", "--max_tokens=100", f"--plots={tmp_path}/pictures"]
    outcome = run_process("eval", speaking, *args)
    assert outcome.code == 0, outcome.err
    assert f"wrote {tmp_path}/pictures/loss_100.png" in outcome.err
