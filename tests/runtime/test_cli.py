"""The command line itself: finding subcommands, parsing, exit codes, messages."""

import importlib.metadata
import os
import re
import shlex
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from absl import flags
from cli_runner import Outcome, environment, run, run_process, write_speaking_bundle
from tiny_bundle import write_tiny_bundle

from shadowattn.runtime import cli

NAMES = (
    *("convert", "generate", "inspect", "profile", "schedule", "bench"),
    *("benchmark_model", "eval", "calibrate", "doctor"),
)


class FakeCommand:
    """A subcommand written to the contract alone, with what it does handed in."""

    name = "fake"
    summary = "do as the test says"
    usage = "THING [flags]"
    example = "shadowattn fake thing"
    extra = "converter"

    def __init__(self, work: Callable[[list[str], flags.FlagValues], Any]) -> None:
        self.work = work

    def define_flags(self, flag_values: flags.FlagValues) -> None:
        flags.DEFINE_string("output", None, "where to", short_name="o", flag_values=flag_values)
        flags.DEFINE_integer("count", 3, "how many", lower_bound=1, flag_values=flag_values)
        flags.DEFINE_bool("json", False, "as JSON", flag_values=flag_values)
        flags.DEFINE_string("long_name", None, "with an underscore", flag_values=flag_values)
        flags.DEFINE_bool("long_switch", True, "with an underscore", flag_values=flag_values)

    def run(self, positional: list[str], flag_values: flags.FlagValues) -> int:
        return int(self.work(positional, flag_values) or 0)


class FakeEntry:
    name = "fake"

    def __init__(self, command: FakeCommand) -> None:
        self._command = command

    def load(self) -> FakeCommand:
        return self._command


Fake = Callable[..., Outcome]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fake:
    def run_fake(work: Callable[[list[str], flags.FlagValues], Any], *args: str) -> Outcome:
        monkeypatch.setattr(cli, "find_commands", lambda: {"fake": FakeEntry(FakeCommand(work))})
        return run(capsys, "fake", *args)

    return run_fake


def raising(error: BaseException) -> Callable[[list[str], flags.FlagValues], Any]:
    def work(positional: list[str], flag_values: flags.FlagValues) -> Any:
        raise error

    return work


# --- finding ---


def test_all_subcommands_are_found_installed_or_not() -> None:
    assert set(NAMES) <= set(cli.find_commands())
    assert tuple(cli.BUILT_IN) == NAMES


def test_an_installed_entry_point_is_found_and_goes_before_the_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [EntryPoint("extra", "somewhere:COMMAND", cli.GROUP), EntryPoint("bench", "elsewhere:COMMAND", cli.GROUP)]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found)
    commands = cli.find_commands()
    assert commands["extra"].value == "somewhere:COMMAND"
    assert commands["bench"].value == "elsewhere:COMMAND"
    assert commands["doctor"].value == cli.BUILT_IN["doctor"]


@pytest.mark.parametrize("name", ["generate", "inspect", "bench", "doctor"])
def test_every_subcommand_keeps_the_contract(name: str) -> None:
    command = cli.find_commands()[name].load()
    assert command.name == name
    assert "\n" not in command.summary
    assert not command.summary.endswith(".")
    for line in command.example.splitlines():
        assert f"shadowattn {name}" in line
    assert "json" in cli.command_flags(command)


@pytest.mark.parametrize("name", ["generate", "inspect", "bench", "doctor"])
def test_help_of_every_subcommand(capsys: pytest.CaptureFixture[str], name: str) -> None:
    for args in ((name, "--help"), (name, "some", "--nonsense", "-h"), ("help", name)):
        outcome = run(capsys, *args)
        assert outcome.code == 0
        assert outcome.out.startswith(f"usage: shadowattn {name} ")
        assert f"example:\n  {cli.find_commands()[name].load().example.splitlines()[0]}" in outcome.out
        assert "--[no]json" in outcome.out
        assert outcome.err == ""


def test_overview(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("help", "--help", "-h"):
        outcome = run(capsys, word)
        assert outcome.code == 0
        assert all(f"\n  {name}" in outcome.out for name in NAMES)
    outcome = run(capsys)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("usage: shadowattn COMMAND")


def test_the_overview_survives_a_command_that_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {"broken": EntryPoint("broken", "no.such.module:COMMAND", cli.GROUP)}
    monkeypatch.setattr(cli, "find_commands", lambda: broken)
    assert "(cannot be loaded: No module named 'no')" in run(capsys, "help").out


@pytest.mark.parametrize("word", ["version", "--version", "-V"])
def test_version(capsys: pytest.CaptureFixture[str], word: str) -> None:
    outcome = run(capsys, word)
    assert outcome.code == 0
    assert outcome.out.startswith("shadowattn ")


@pytest.mark.parametrize("columns", [60, 100])
@pytest.mark.parametrize("name", cli.BUILT_IN)
def test_help_is_wrapped_and_has_research_last(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = run(capsys, name, "--help").out
    command = cli.find_commands()[name].load()
    flags_part = text.partition("\nflags:\n")[2].partition("\nexample:\n")[0]
    assert max(len(line) for line in flags_part.splitlines() if " " in line.strip()) < columns
    everyday, _, research = flags_part.partition("\nflags for research and tuning:\n")
    for flag in getattr(command, "research", ()):
        if flag in cli.command_flags(command):
            assert re.search(rf"^  --(\[no\])?{flag}\b", research, re.MULTILINE), flag
            assert not re.search(rf"^  --(\[no\])?{flag}\b", everyday, re.MULTILINE), flag


def test_json_means_print_everywhere() -> None:
    for name, entry in cli.find_commands().items():
        values = cli.command_flags(entry.load())
        assert "json" not in values or values["json"].boolean, name


# --- wrong usage ---


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(capsys, "genrate")
    assert (outcome.code, outcome.error) == (
        2,
        "unknown command 'genrate', did you mean 'generate'?; see `shadowattn help`",
    )
    assert "wanted one of convert, generate" in run(capsys, "xyz").error
    assert "unknown flag '--frobnicate'" in run(capsys, "--frobnicate").error
    assert "unknown command 'xyz'" in run(capsys, "help", "xyz").error


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--nonsense=1"], "unknown flag --nonsense; see"),
        (["--cuont=2"], "unknown flag --cuont, did you mean --count?"),
        (["--count=many"], "flag --count=many: invalid literal"),
        (["--count=0"], "flag --count=0: 0 is not a positive integer"),
        (["--output"], "Missing value for flag --output"),
        (["--json=perhaps"], "flag --json=perhaps"),
    ],
)
def test_bad_flags(fake: Fake, args: list[str], message: str) -> None:
    outcome = fake(lambda positional, flag_values: 0, *args)
    assert outcome.code == 2
    assert message in outcome.error
    assert outcome.error.endswith("see `shadowattn fake --help`")


def test_flags_and_arguments_in_any_order(fake: Fake) -> None:
    seen = []

    def work(positional: list[str], flag_values: flags.FlagValues) -> int:
        seen.append((positional, flag_values.output, flag_values.count, flag_values.json, flag_values.verbosity))
        return 0

    for args in (["a", "-", "-o", "x", "--json"], ["-o", "x", "--json", "a", "-"], ["--output=x", "a", "--json", "-"]):
        assert fake(work, *args).code == 0
    assert seen == [(["a", "-"], "x", 3, True, 0)] * 3


def test_dashes_for_underscores_but_never_in_values(fake: Fake) -> None:
    seen = []

    def work(positional: list[str], flag_values: flags.FlagValues) -> int:
        seen.append((positional, flag_values.long_name, flag_values.output, flag_values.long_switch))
        return 0

    for args in (
        ["--long-name=a-b", "--output", "--long-name", "--no-long-switch"],
        ["--long-name", "a-b", "--output=--long-name", "--nolong-switch"],
        ["--long_name", "a-b", "-o", "--long-name", "--nolong_switch"],
    ):
        outcome = fake(work, *args, "x", "--", "--long-name")
        assert outcome.code == 0, outcome.err
    assert seen == [(["x", "--long-name"], "a-b", "--long-name", False)] * 3


def test_wrong_usage_found_by_the_command(fake: Fake) -> None:
    outcome = fake(raising(flags.Error("wanted a MODEL, got nothing")))
    assert (outcome.code, outcome.error) == (2, "wanted a MODEL, got nothing; see `shadowattn fake --help`")


# --- failures ---


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("wanted this,\n   got that"), "wanted this, got that"),
        (FileNotFoundError(2, "No such file or directory", "x.txt"), "x.txt: No such file or directory"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (RuntimeError("delegate says no"), "delegate says no"),
        (MemoryError(), "not enough memory; use a shorter prompt, fewer threads (-t), or a machine with more"),
        (OSError(12, "Cannot allocate memory", "model.tflite"), "not enough memory: "),
        (ImportError("x.so: failed to map segment from shared object", name="x"), "not enough memory to load x ("),
        (RuntimeError("no: " + "failed to create XNNPACK runtime" * 4),
         "not enough memory: no: failed to create XNNPACK runtime; use"),
        (ValueError("internal error: Resource temporarily unavailable"), "not enough memory: internal error: "),
        (ModuleNotFoundError("No module named 'torch'", name="torch"),
         "fake needs packages that are not installed (No module named 'torch'); install them with: pip install "),
        (ModuleNotFoundError("No module named 'shadowattn.x'", name="shadowattn.x"), "this installation is incomplete"),
        (KeyError("k"), "KeyError: 'k' (a defect of shadowattn: run again with --verbosity=1 and report it)"),
    ],
)  # fmt: skip
def test_failures_are_one_line_and_code_1(fake: Fake, error: Exception, message: str) -> None:
    outcome = fake(raising(error))
    assert outcome.code == 1
    assert outcome.error.startswith(message)
    assert outcome.out == ""


@pytest.mark.parametrize("args", [["--verbosity=1"], ["--verbosity", "2"]])
def test_a_traceback_only_when_asked_for(fake: Fake, args: list[str]) -> None:
    assert "Traceback" not in fake(raising(ValueError("no"))).err
    assert "Traceback" not in fake(raising(ValueError("no")), "--verbosity=0").err
    outcome = fake(raising(ValueError("no")), *args)
    assert outcome.code == 1
    assert "Traceback (most recent call last)" in outcome.err
    assert outcome.err.endswith("shadowattn: error: no\n")


def test_the_code_of_the_command_is_the_exit_code(fake: Fake) -> None:
    assert fake(lambda positional, flag_values: 1).code == 1


def test_ctrl_c_is_130_and_one_line(fake: Fake) -> None:
    outcome = fake(raising(KeyboardInterrupt()))
    assert (outcome.code, outcome.err.strip()) == (130, "shadowattn: interrupted")


def test_warnings_are_one_line(fake: Fake) -> None:
    def work(positional: list[str], flag_values: flags.FlagValues) -> int:
        warnings.warn("slow\n  path", RuntimeWarning, stacklevel=2)
        return 0

    assert fake(work).err == "shadowattn: warning: slow path\n"


def test_termination_unwinds_like_ctrl_c(fake: Fake) -> None:
    cleaned = []

    def work(positional: list[str], flag_values: flags.FlagValues) -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
            cleaned.append("the handler did not run")
        finally:
            cleaned.append(True)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        fake(work)
    assert (ended.value.code, cleaned) == (143, [True])
    assert signal.getsignal(signal.SIGTERM) is before


# --- as a process ---


def test_no_module_of_the_converter_side_is_loaded() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'litert_torch', 'shadowattn.converter'): sys.modules[name] = None\n"
        "from shadowattn.runtime import cli\n"
        "from shadowattn.runtime.commands import bench, doctor, generate, inspect\n"
        "sys.exit(cli.main(['generate', '--help']) or ('numpy' in sys.modules))\n"
    )
    outcome = run_process(code=code)
    assert (outcome.code, outcome.err) == (0, "")


def test_a_closed_pipe_is_quiet() -> None:
    command = [sys.executable, "-m", "shadowattn.runtime.cli", "help"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment(), timeout=60, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_convert_without_its_packages_names_the_pip_command(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF and more")
    code = (
        "import sys\n"
        "for name in ('torch', 'litert_torch', 'gguf', 'safetensors', 'transformers'): sys.modules[name] = None\n"
        "from shadowattn.runtime import cli\n"
        "sys.exit(cli.main(['convert', sys.argv[1], '-o', sys.argv[2]]))\n"
    )
    outcome = run_process(tmp_path / "model.gguf", tmp_path / "out.bundle", code=code)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.splitlines()[-1].startswith("shadowattn: error: convert needs packages that are not installed (")
    assert "install them with: pip install " in outcome.err
    assert not (tmp_path / "out.bundle").exists()


SHELL = {  # what the shell appends -> exit code, the only line on standard error
    "--version >/dev/full": (1, "standard output: No space left on device; the result could not be written"),
    "help >/dev/full": (1, "standard output: No space left on device; the result could not be written"),
    "--version >&-": (1, "standard output: it is closed; the result could not be written"),
    "generate --help >/dev/full": (1, "standard output: No space left on device; the result could not be written"),
    "doctor --json >/dev/full": (1, "standard output: No space left on device; the result could not be written"),
    "generate b -p Hello -n 3 >/dev/full": (
        *(1, "standard output: No space left on device; the result could not be written"),
    ),
    "xyz 2>&-": (2, ""),
    "xyz 2>/dev/full": (2, ""),
    "--version >/dev/full 2>/dev/full": (1, ""),
    "generate nothing - <&-": (1, "standard input is closed; give the prompt with --prompt or --prompt_file"),
    "generate nothing --prompt=x >&- <&-": (1, "nothing: not a bundle"),
}


@pytest.mark.parametrize("arguments", SHELL)
def test_streams_that_are_full_or_closed(tmp_path: Path, arguments: str) -> None:
    write_speaking_bundle(tmp_path / "b")
    command = f"{shlex.quote(sys.executable)} -m shadowattn.runtime.cli {arguments}"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env=environment(), cwd=tmp_path, timeout=60, check=False
    )
    code, message = SHELL[arguments]
    lines = done.stderr.splitlines()
    assert done.returncode == code, done.stderr
    assert len(lines) == bool(message), done.stderr
    assert not message or lines[0].startswith(f"shadowattn: error: {message}")


def test_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "b")
    odd = os.fsencode(tmp_path) + b"/\xff"
    os.rename(tmp_path / "b", odd)
    for flag, code, line in (("--nonode_assignments", 0, ""), ("--node_assignments", 1, "wanted a path in UTF-8")):
        command = [sys.executable, "-m", "shadowattn.runtime.cli", "inspect", odd, flag]
        done = subprocess.run(command, capture_output=True, env=environment(), timeout=60, check=False)
        assert (done.returncode, line.encode() in done.stderr) == (code, True), done.stderr
        assert done.stderr.count(b"\n") == code
