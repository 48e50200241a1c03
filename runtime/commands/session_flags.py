"""The flags that say how a session is opened, shared by the subcommands that open one."""

import errno
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from shadowattn.runtime.session.modes import AUTO, MODES

if TYPE_CHECKING:  # at run time only where a session is really opened: --help and doctor need none
    from shadowattn.runtime.session.session import Session

_RUN_NAMES = ("num_threads", "executor", "cache_type", "isa", "max_length")
_NAMES = (*_RUN_NAMES, "mode", "keep_ratio", "max_skipped_mass")
RUN_RESEARCH = ("executor", "cache_type", "isa")  # flags that --help shows last
SESSION_RESEARCH = ("mode", "max_skipped_mass", *RUN_RESEARCH)


def define_session_flags(flag_values: flags.FlagValues) -> None:
    """model, num_threads, mode, keep_ratio, max_skipped_mass, executor, cache_type, isa, max_length."""
    flags.DEFINE_enum(
        "mode", None, list(MODES), "shadow (sparse, the default), dense, or a system to compare with: docs/op_spec.md",
        flag_values=flag_values,
    )  # fmt: skip
    flags.DEFINE_string(
        "keep_ratio", None, "share of the positions that attention reads, in (0, 1], or auto; default: the bundle's",
        flag_values=flag_values,
    )  # fmt: skip
    flags.DEFINE_float(
        "max_skipped_mass", None,
        "mode shadow: largest share of a query's softmax mass, on average, on pages that it skips; 0: it skips none",
        lower_bound=0.0, flag_values=flag_values,
    )  # fmt: skip
    require_finite("max_skipped_mass", flag_values)
    flags.register_validator("keep_ratio", _is_keep_ratio, "wanted auto or a number in (0, 1]", flag_values)
    define_run_flags(flag_values)


def define_run_flags(flag_values: flags.FlagValues) -> None:
    """model, num_threads, executor, cache_type, isa, max_length: how a session runs, whatever its mode."""
    flags.DEFINE_string("model", None, "the bundle, instead of an argument", short_name="m", flag_values=flag_values)
    flags.DEFINE_integer(
        "num_threads", None, "threads (default: all CPUs this process may use)", short_name="t", lower_bound=1,
        flag_values=flag_values,
    )  # fmt: skip
    flags.DEFINE_enum(
        "executor",
        "fused",
        ["fused", "pipelined"],
        "one graph per chunk, or docs/pipeline.md",
        flag_values=flag_values,
    )
    flags.DEFINE_enum("cache_type", "f16", ["f16", "f32"], "how keys and values are stored", flag_values=flag_values)
    isas = ["auto", "scalar", "avx2", "avx512", "avx512vnni", "avx512amx", "neon", "neondot", "neoni8mm"]
    flags.DEFINE_enum("isa", "auto", isas, "instruction set of the custom ops", flag_values=flag_values)
    flags.DEFINE_integer(
        "max_length", None, "positions the session may hold; default: the bundle's", lower_bound=1,
        flag_values=flag_values,
    )  # fmt: skip


def require_share(name: str, flag_values: flags.FlagValues) -> None:
    """The flag must be in (0, 1], or unset."""

    def is_share(value: float | None) -> bool:
        return value is None or 0 < value <= 1

    flags.register_validator(name, is_share, "wanted a number in (0, 1]", flag_values)


def require_finite(name: str, flag_values: flags.FlagValues) -> None:
    """A lower bound lets NaN and infinity pass."""
    flags.register_validator(
        name, lambda value: value is None or math.isfinite(value), "wanted a finite number", flag_values
    )


def _is_keep_ratio(word: str | None) -> bool:
    try:
        return word is None or word == AUTO or 0 < float(word) <= 1
    except ValueError:
        return False


def positive_numbers(name: str, words: list[str] | None, example: str) -> tuple[int, ...] | None:
    """The numbers of a list flag, ascending and each once; None where it was not given. Raises flags.Error."""
    if words is None:
        return None
    if not words or not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise flags.Error(f"--{name}: wanted positive numbers such as {example}, got {','.join(words)!r}")
    return tuple(sorted({int(word) for word in words}))


def session_options(flag_values: flags.FlagValues) -> dict[str, Any]:
    """The keyword arguments of Session.open that the flags stand for."""
    options = {name: flag_values[name].value for name in _NAMES}
    word = options["keep_ratio"]
    return options | {"keep_ratio": word if word is None or word == AUTO else float(word)}


def run_options(flag_values: flags.FlagValues) -> dict[str, Any]:
    """The keyword arguments of Session.open that the flags of define_run_flags() stand for."""
    return {name: flag_values[name].value for name in _RUN_NAMES}


def open_session(bundle: Path, flag_values: flags.FlagValues, **overrides: Any) -> "Session":
    """Opens the bundle as the flags say; `overrides` go before them."""
    from shadowattn.runtime.session.session import Session

    return Session.open(bundle, **(session_options(flag_values) | overrides), verbosity=flag_values.verbosity)


def bundle_argument(positional: list[str], flag_values: flags.FlagValues, usage: str) -> Path:
    """The bundle's path: the only argument, or --model. Raises flags.Error if it is missing or more was given."""
    bundle, words = bundle_and_words(positional, flag_values, usage, most_words=0)
    assert not words
    return bundle


def bundle_and_words(
    positional: list[str], flag_values: flags.FlagValues, usage: str, most_words: int = 1
) -> tuple[Path, list[str]]:
    """The bundle's path, of the first argument or of --model, and the arguments that are left. Raises flags.Error."""
    words = list(positional)
    name = flag_values.model or (words.pop(0) if words else None)
    usage = " ".join(usage.split())
    if not name:
        raise flags.Error(f"wanted a bundle (usage: {usage}), got no argument")
    if len(words) > most_words:
        hint = "; put a prompt of many words in quotes" if most_words else ""
        raise flags.Error(f"too many arguments: {' '.join(words[most_words:])!r} (usage: {usage}){hint}")
    return Path(name), words


def check_bundle(path: Path) -> None:
    """Before anything is loaded. Raises ValueError if this is not a whole bundle."""
    from shadowattn.models.bundle import read_manifest

    read_manifest(path)


def readable_file(name: str) -> Path:
    """Looks whether it can be read, without opening it (it may be a pipe). Raises OSError that names it."""
    if not name.strip():
        raise ValueError("the name of a file is empty; give its path")
    path = Path(name)
    path.stat()
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
    return path


def check_files(flag_values: flags.FlagValues, *names: str) -> None:
    """The files that these flags name can be read. Raises OSError that names the one that cannot."""
    for name in names:
        value = flag_values[name].value
        for file in value if isinstance(value, list) else [value] if value else []:
            readable_file(file.strip())
