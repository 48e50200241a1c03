"""The texts of --help, wrapped to the terminal: everyday flags first, flags for research under their own heading."""

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint
from typing import Any

from absl import flags

_LEFT_COLUMN = 30  # at most


def overview(commands: Mapping[str, EntryPoint]) -> str:
    """Every command in a line."""
    rows = []
    for name, entry in commands.items():
        try:
            rows.append((name, entry.load().summary))
        except ImportError as error:
            rows.append((name, f"(cannot be loaded: {error})"))
    return "\n".join(
        [
            "usage: shadowattn COMMAND [ARGUMENTS] [--FLAGS]",
            "",
            "commands:",
            *_two_columns(rows),
            "",
            *_wrapped("`shadowattn COMMAND --help` explains one command. `shadowattn version` prints the version."),
            "Exit codes: 0 done, 1 failed, 2 wrong usage.",
            "",
            "example:",
            "  shadowattn generate smollm2.bundle --chat 'What is a list comprehension?'",
        ]
    )


def command_help(command: Any, flag_values: flags.FlagValues) -> str:
    research = getattr(command, "research", ())
    rows = {name: _flag_row(flag_values[name]) for name in flag_values if name == flag_values[name].name}
    rows = {name: row for name, row in rows.items() if not flag_values[name].help.startswith("Alias for")}
    lines = [
        f"usage: shadowattn {command.name} {command.usage}",
        "",
        *_wrapped(f"{command.summary[0].upper()}{command.summary[1:]}."),
        "",
        "flags:",
        *_two_columns([row for name, row in rows.items() if name not in research]),
    ]
    if any(name in research for name in rows):
        lines += ["", "flags for research and tuning:"]
        lines += _two_columns([row for name, row in rows.items() if name in research])
    return "\n".join([*lines, "", "example:", *(f"  {line}" for line in command.example.splitlines())])


def _flag_row(flag: flags.Flag) -> tuple[str, str]:
    """How to write the flag, and what it does with its default."""
    short = f", -{flag.short_name}" if flag.short_name else ""
    if flag.boolean:
        left, default = f"--[no]{flag.name}{short}", "on by default" if flag.default else ""
    else:
        left = f"--{flag.name}=..{short}"
        default = "" if flag.default is None else "default " + flag.default_as_str.strip("'")
    return left, f"{' '.join((flag.help or '').split())}{f' ({default})' if default else ''}"


def _two_columns(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The right one wrapped to the terminal; a left one that is too long gets a line of its own."""
    width = min(max(len(left) for left, _ in rows), _LEFT_COLUMN)
    for left, right in rows:
        lines = textwrap.wrap(right, max(20, _terminal_width() - width - 4), break_on_hyphens=False) or [""]
        if len(left) > width:
            yield f"  {left}"
            left = ""
        for line in lines:
            yield f"  {left:<{width}}  {line}".rstrip()
            left = ""


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _terminal_width(), break_on_hyphens=False)


def _terminal_width() -> int:
    """Of the terminal, or of $COLUMNS; 100 where there is neither."""
    return max(40, shutil.get_terminal_size((100, 24)).columns - 1)
