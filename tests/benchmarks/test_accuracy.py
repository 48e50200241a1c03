"""`make accuracy`: parts, what is computed again, and the document; on a tiny bundle."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import accuracy
import pytest
import remaining
from cli_runner import write_speaking_bundle

from shadowattn.runtime.cli import command_flags
from shadowattn.runtime.commands.eval import COMMAND, _options
from shadowattn.runtime.evaluate.options import EvalOptions


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name in ("one.txt", "two.txt", "three.txt"):
        (tmp_path / name).write_text(f"This is {name}. It says little. " * 200)
    return [str(tmp_path / name) for name in ("one.txt", "two.txt", "three.txt")]


def all_sections(files: list[str]) -> list[accuracy.Section]:
    bundles = accuracy.Bundles(Path("x.bundle"), Path("y.bundle"))
    return [*accuracy.full_sections(files, {}, bundles), *accuracy.short_sections(files, {}, bundles.int8)]


def test_parts_cover_their_section(files: list[str]) -> None:
    for section in all_sections(files):
        parts = section.parts()
        values = [value for part in parts for value in getattr(part.options, section.split)]
        assert tuple(values) == getattr(section.options, section.split)
        assert len({part.name for part in parts}) == len(parts)
        assert all(part.cost() > 0 for part in parts)


def test_the_command_line_says_what_was_done(files: list[str]) -> None:
    for section in all_sections(files):
        words = accuracy.shlex.split(accuracy.command_line(section.bundle, section.options))
        assert words[:3] == ["shadowattn", "eval", "y.bundle" if "float32" in section.name else "x.bundle"]
        flag_values = command_flags(COMMAND)
        flag_values(["eval", *words[3:]])
        assert dataclasses.replace(_options(flag_values), session={}) == section.options


def test_sections_are_selected_by_name(files: list[str]) -> None:
    sections = accuracy.full_sections(files, {}, accuracy.Bundles(Path("x.bundle")))
    assert [section.name for section in accuracy.select(sections, "greedy,needle")] == ["needle", "greedy"]
    with pytest.raises(SystemExit, match=r"--only: wanted some of perplexity_2048, .*, got 'speed'"):
        accuracy.select(sections, "speed")


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no bundle; run `make demo` first"):
        accuracy.main([f"--bundle={tmp_path}/none"])


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaking_bundle(tmp_path_factory.mktemp("accuracy") / "tiny.bundle")


def small_section(files: list[str], bundle: Path) -> accuracy.Section:
    options = EvalOptions(
        modes=("shadow",), keep_ratios=(0.1,), texts=tuple(files[:2]), window=60, max_tokens=60,
        session={"num_threads": 1},
    )  # fmt: skip
    return accuracy.Section("small", "Small", options, "texts", bundle)


def test_a_finished_part_is_not_computed_again(
    files: list[str], speaking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "tiny.bundle"
    shutil.copytree(speaking, bundle)
    computed: list[str] = []
    evaluate = accuracy.evaluate

    def counting(bundle: Path, options: EvalOptions) -> dict[str, Any]:
        computed.append(Path(options.texts[0]).stem)
        return evaluate(bundle, options)

    def compute(force: bool = False) -> list[str]:
        computed.clear()
        accuracy.compute_sections([small_section(files, bundle)], accuracy.Store(tmp_path / "out", force))
        return list(computed)

    monkeypatch.setattr(accuracy, "evaluate", counting)
    assert compute() == ["one", "two"]
    assert compute() == []
    assert compute(force=True) == ["one", "two"]
    (tmp_path / "out" / "small_two.json").unlink()
    assert compute() == ["two"]
    Path(files[0]).write_text("This text is new. " * 200)
    assert compute() == ["one"]
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"name": "another"}))
    assert compute() == ["one", "two"]


def test_the_document(files: list[str], speaking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    impossible = dataclasses.replace(small_section(files, speaking).options, window=300, max_tokens=300)
    sections = [small_section(files, speaking), accuracy.Section("long", "Long", impossible, "texts", speaking)]
    outcomes = accuracy.compute_sections(sections, accuracy.Store(tmp_path / "out", False))
    assert "accuracy: FAILED long_one: --window: wanted at most the 256 positions" in capsys.readouterr().err
    assert [(row["text"], row["mode"]) for row in outcomes[0].rows()] == [
        *(("one.txt", "dense"), ("one.txt", "shadow"), ("two.txt", "dense"), ("two.txt", "shadow"))
    ]
    path = tmp_path / "out" / "accuracy.md"
    accuracy.write_document(path, outcomes, [], ["brown: no network here"])
    text = path.read_text()
    assert "Missing: brown: no network here" in text
    assert "Missing: long_one: --window" in text
    assert (
        f"shadowattn eval {speaking} --modes=shadow --keep_ratios=0.1 --text={files[0]},{files[1]} --window=60" in text
    )
    assert "num_threads" not in text
    assert "Over 2 texts:" in text
    if accuracy.plots.can_plot():
        assert "![loss_60](small/loss_60.png)" in text


def test_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 60.0])
    monkeypatch.setattr(remaining.time, "monotonic", lambda: next(seconds))
    left = remaining.Remaining(400.0)
    assert left.in_words() == ""
    left.finished(100.0)
    assert left.in_words() == "; about 3 min left"
