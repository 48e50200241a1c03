"""The command `shadowattn`: finds the subcommands, parses their flags, turns what happens into exit codes.

A subcommand is an entry point of the group `shadowattn.commands`, so that no module imports across the wall between
converter and runtime. The entry point names an object with these attributes (no base class):

    name, summary   "generate", and one line about it
    usage, example  what follows `shadowattn NAME`, and whole command lines that work
    define_flags(flag_values)             defines its absl flags there, never in the global FLAGS; must be cheap
    run(positional, flag_values) -> int   does the work, returns the exit code; heavy imports belong in here
    extra           (optional) the pip extra that run() needs
    research        (optional) names of flags that nobody needs every day; --help shows them last

The command line itself adds --help and --verbosity to each. run() raises absl.flags.Error for wrong usage (exit 2) and
any other exception for a failure (exit 1): one line on stderr, a traceback only with --verbosity=1 or more.
Results go to stdout, everything else to stderr.
"""

import contextlib
import difflib
import errno
import importlib.metadata
import io
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint
from typing import Any

from absl import flags

from shadowattn.runtime.commands.failures import DISTRIBUTION, describe_error
from shadowattn.runtime.commands.help_text import command_help, overview

GROUP = "shadowattn.commands"
# Where the subcommands live, for a checkout that was not installed (build/dev); the order is that of the help text.
BUILT_IN = {
    "convert": "shadowattn.converter.cli:COMMAND",
    "generate": "shadowattn.runtime.commands.generate:COMMAND",
    "inspect": "shadowattn.runtime.commands.inspect:COMMAND",
    "profile": "shadowattn.runtime.commands.profile:COMMAND",
    "schedule": "shadowattn.runtime.commands.schedule:COMMAND",
    "bench": "shadowattn.runtime.commands.bench:COMMAND",
    "benchmark_model": "shadowattn.runtime.commands.benchmark_model:COMMAND",
    "eval": "shadowattn.runtime.commands.eval:COMMAND",
    "calibrate": "shadowattn.runtime.commands.calibrate:COMMAND",
    "doctor": "shadowattn.runtime.commands.doctor:COMMAND",
}
EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
EXIT_INTERRUPTED, EXIT_BROKEN_PIPE, EXIT_TERMINATED = 130, 141, 143  # 128 + the signal's number
_HELP = ("--help", "-h", "-help")
_VERSION = ("version", "--version", "-V")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `shadowattn` with the arguments after its name (default: the process's). Returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    _prepare_streams()
    with _termination_as_exception(), warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            code = _dispatch(args)
            return _flush_stdout(code)
        except KeyboardInterrupt:
            print("\nshadowattn: interrupted", file=sys.stderr)
            return EXIT_INTERRUPTED
        except BrokenPipeError:
            _silence_stdout()
            return EXIT_BROKEN_PIPE
        except OSError as error:  # while printing: what a command does is caught in _run_command
            _silence_stdout()
            return _fail(_about_stdout(error), EXIT_FAILED)


def _dispatch(args: list[str]) -> int:
    commands = find_commands()
    if not args:
        print(overview(commands), file=sys.stderr)
        return EXIT_USAGE
    first, rest = args[0], args[1:]
    if first in _VERSION:
        print(f"shadowattn {version()}")
        return EXIT_OK
    if first == "help" and rest:
        first, rest = rest[0], ["--help"]
    if first in ("help", *_HELP):
        print(overview(commands))
        return EXIT_OK
    if first not in commands:
        hint = _did_you_mean(first, commands)
        return _fail(f"unknown {_kind(first)} {first!r}{hint}; see `shadowattn help`", EXIT_USAGE)
    return _run_command(commands[first], rest)


def _run_command(entry: EntryPoint, args: list[str]) -> int:
    verbose = _asks_for_traceback(args)
    command: Any = None
    try:
        command = entry.load()
        flag_values = command_flags(command)
        if _asks_for_help(args):
            print(command_help(command, flag_values))
            return EXIT_OK
        flag_values.set_gnu_getopt(True)
        positional = flag_values([entry.name, *_with_underscores(args, flag_values)])[1:]
        return int(command.run(positional, flag_values))
    except flags.UnrecognizedFlagError as error:
        return _fail(
            f"{_about_flag(error.flagname, args, flag_values)}; see `shadowattn {entry.name} --help`", EXIT_USAGE
        )
    except flags.Error as error:
        text = re.sub(r"\('Non-boolean argument to boolean flag', (.*)\)", r"it takes no value, got \1", str(error))
        return _fail(f"{text}; see `shadowattn {entry.name} --help`", EXIT_USAGE)
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:  # noqa: BLE001, RUF100 - the one place where every failure becomes a line and a code
        if verbose:
            traceback.print_exc()
        if isinstance(error, OSError) and getattr(sys.stdout, "failed", False):
            raise  # to main(), which names the stream
        return _fail(describe_error(error, entry.name, getattr(command, "extra", None)), EXIT_FAILED)


def command_flags(command: Any) -> flags.FlagValues:
    """The flags of a subcommand: its own, and those that every subcommand has."""
    flag_values = flags.FlagValues()
    command.define_flags(flag_values)
    verbosity = "0: errors in one line; 1: with traceback, and with what LiteRT logs"
    flags.DEFINE_integer("verbosity", 0, verbosity, flag_values=flag_values)
    flags.DEFINE_bool("help", False, "show this text", short_name="h", flag_values=flag_values)
    return flag_values


def find_commands() -> dict[str, EntryPoint]:
    """Name -> entry point: the installed ones, and for what is not installed the built-in list."""
    found = {name: EntryPoint(name=name, value=value, group=GROUP) for name, value in BUILT_IN.items()}
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda entry: entry.name):
        found[entry.name] = entry
    return found


def version() -> str:
    """The installed version, or "unknown (not installed)" in a checkout."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "unknown (not installed)"


# --- arguments and ends ---


def _asks_for_help(args: list[str]) -> bool:
    before_separator = args[: args.index("--")] if "--" in args else args
    return any(arg in _HELP for arg in before_separator)


def _asks_for_traceback(args: list[str]) -> bool:
    """Looked for in the raw arguments, because flags may be what fails."""
    for position, arg in enumerate(args):
        name, _, value = arg.lstrip("-").partition("=")
        if arg.startswith("-") and name == "verbosity":
            value = value or (args[position + 1] if position + 1 < len(args) else "")
            return value.isdigit() and int(value) > 0
    return False


def _with_underscores(args: list[str], flag_values: flags.FlagValues) -> list[str]:
    """--max-new-tokens for --max_new_tokens; values and what is behind `--` stay as they are."""
    result: list[str] = []
    is_value = False
    for position, arg in enumerate(args):
        if arg == "--" and not is_value:
            return result + args[position:]
        name, equals, value = arg.partition("=")
        flag_name = name.lstrip("-").replace("-", "_")
        if flag_name.startswith("no_") and _find_flag(flag_name[3:], flag_values) is not None:
            flag_name = f"no{flag_name[3:]}"
        if not is_value and name.startswith("--") and _find_flag(flag_name, flag_values) is not None:
            arg = f"--{flag_name}{equals}{value}"
        flag = None if is_value or not arg.startswith("-") else _find_flag(flag_name, flag_values)
        is_value = flag is not None and not flag.boolean and not equals
        result.append(arg)
    return result


def _find_flag(name: str, flag_values: flags.FlagValues) -> flags.Flag | None:
    """Also for --noNAME of a boolean one."""
    if name in flag_values:
        return flag_values[name]
    positive = name.removeprefix("no")
    return flag_values[positive] if positive in flag_values and flag_values[positive].boolean else None


def _about_flag(name: str, args: list[str], flag_values: flags.FlagValues) -> str:
    """As it was typed: a word may begin with a dash without being meant as a flag."""
    known = [flag_name for flag_name in flag_values if len(flag_name) > 1]
    near = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
    hint = f", did you mean --{near[0]}?" if near else ""
    if " " in name:
        hint = "; a word that begins with a dash and is no flag comes last, after --"
    dashes = "--" if any(arg.partition("=")[0] == f"--{name}" for arg in args) else "-"
    return f"unknown flag {dashes}{name}{hint}"


def _kind(word: str) -> str:
    return "flag" if word.startswith("-") else "command"


def _did_you_mean(word: str, commands: dict[str, EntryPoint]) -> str:
    near = difflib.get_close_matches(word, commands, n=1)
    return f", did you mean {near[0]!r}?" if near else f"; wanted one of {', '.join(commands)}"


def _fail(message: str, code: int) -> int:
    try:
        print(f"shadowattn: error: {message}", file=sys.stderr, flush=True)
    except OSError:  # nobody can be told, but the code is right
        _silence(2)
    return code


def _show_warning(message: Warning | str, *place: object, **more: object) -> None:
    print(f"shadowattn: warning: {' '.join(str(message).split())}", file=sys.stderr)


class _Closed(io.TextIOBase):
    """Standard output when the process was started without one: writing is an error, writing nothing is not."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "it is closed", "standard output")


def _prepare_streams() -> None:
    """Streams that the caller closed are None in Python, and their numbers would go to the next files opened."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the whole process
    if type(sys.stdout) is io.TextIOWrapper:  # the process's own; it stays alive as sys.__stdout__
        own = sys.stdout
        sys.stdout = _Watched(
            own.buffer, own.encoding, own.errors, line_buffering=own.line_buffering, write_through=own.write_through
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and (stream is sys.stdout or stream.errors == "strict"):
            stream.reconfigure(errors="replace")  # for characters that this terminal lacks, paths that are not UTF-8


def _flush_stdout(code: int) -> int:
    """A full disk may show only now."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _silence_stdout()
        return code or _fail(_about_stdout(error), EXIT_FAILED)  # one line: a command that failed has had its own
    return code


class _Watched(io.TextIOWrapper):
    """Standard output that remembers a failure: the OSError itself does not say which file it is about."""

    failed = False

    def write(self, text: str) -> int:
        with self._remembering():
            return super().write(text)

    def flush(self) -> None:
        with self._remembering():
            super().flush()

    @contextlib.contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self.failed = True
            raise


def _about_stdout(error: OSError) -> str:
    return f"standard output: {error.strerror or error}; the result could not be written"


def _silence_stdout() -> None:
    """The reader has gone: what is still buffered must not fail again when Python exits."""
    with contextlib.suppress(OSError, ValueError):
        _silence(sys.stdout.fileno())


def _silence(number: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)


@contextlib.contextmanager
def _termination_as_exception() -> Iterator[None]:
    """SIGTERM unwinds the stack like Ctrl-C does, so that a half-written bundle is cleaned up."""

    def terminate(signum: int, frame: Any) -> None:
        raise SystemExit(EXIT_TERMINATED)

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not the main thread: signals are not ours
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
