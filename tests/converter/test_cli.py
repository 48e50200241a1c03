"""`shadowattn convert`: flags, usage errors, what goes to stdout and what to stderr."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from shadowattn.converter.cli import COMMAND

ROOT = Path(__file__).resolve().parent.parent.parent


def parsed(*arguments: str) -> tuple[list[str], flags.FlagValues]:
    values = flags.FlagValues()
    COMMAND.define_flags(values)
    return values(["shadowattn", *arguments], known_only=False)[1:], values


def test_a_model_becomes_a_bundle(tiny, tmp_path, capsys):
    output = tmp_path / "tiny.bundle"
    arguments = (str(tiny("mistral").path), "-o", str(output), "--prefill_chunks=3", "--max_length=64", "--json")
    arguments += ("--grid_multipliers=1",)
    assert COMMAND.run(*parsed(*arguments)) == 0
    captured = capsys.readouterr()
    facts = json.loads(captured.out)
    assert facts["bundle"] == str(output)
    assert facts["prefill_chunks"] == [3]
    assert facts["max_length"] == 64
    assert facts["estimates"] == 3 * 2  # group sizes, buckets
    assert facts["calibration"]["grid"]["multipliers"] == [1.0]
    assert facts["licence"] == "apache-2.0"
    assert "calibrating on 192 tokens" in captured.err
    assert "min, " in captured.err
    assert "GB of memory at most" in captured.err
    for noise in ("torchao", "FutureWarning", "oneDNN", "XNNPACK"):
        assert noise not in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "-o", "b", "--keep_ratio=7"), "--keep_ratio: wanted a number in"),
        (("a", "-o", "b", "--prefill_chunks=0"), "wanted --prefill_chunks as numbers like 32,256, got '0'"),
        (("a", "-o", "b", "--grid_multipliers=2,1"), "--grid_multipliers: grid multipliers must be 1 to 16 ascending"),
        (("-m", "a", "b", "-o", "c"), "wanted one MODEL .*, got 2"),
        ((), "wanted one MODEL .*, got 0"),
        (("a", "b", "-o", "c"), "wanted one MODEL .*, got 2"),
        (("a",), "wanted -o BUNDLE"),
        (("a", "-o", "b", "--prefill_chunks=32,big"), "wanted --prefill_chunks as numbers like 32,256, got '32,big'"),
        (("a", "-o", "b", "--grid_multipliers=1,big"), "wanted --grid_multipliers as numbers like .*, got '1,big'"),
        (("a", "-o", "b", "--grid_multipliers="), "wanted --grid_multipliers as numbers like .*, got ''"),
    ],
)
def test_wrong_usage(arguments, message):
    with pytest.raises(flags.Error, match=message):
        COMMAND.run(*parsed(*arguments))


def test_unknown_weights_are_wrong_usage():
    with pytest.raises(flags.Error, match="--weights: weights must be int8 or float32, got 'int4'"):
        COMMAND.run(*parsed("a", "-o", "b", "--weights=int4"))
    with pytest.raises(flags.Error, match=r"should be one of <quick\|default>"):
        parsed("a", "-o", "b", "--effort=most")


def test_no_length_is_wrong_usage():
    with pytest.raises(flags.Error, match="0 is not a positive integer"):
        parsed("a", "-o", "b", "--max_length=0")


def test_flags_can_be_defined_without_torch():
    program = (
        "import sys; sys.modules['torch'] = sys.modules['gguf'] = None\n"
        "from absl import flags\nfrom shadowattn.converter.cli import COMMAND\n"
        "COMMAND.define_flags(flags.FlagValues()); print(COMMAND.name, COMMAND.usage, COMMAND.example)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("convert MODEL -o BUNDLE [flags]")
