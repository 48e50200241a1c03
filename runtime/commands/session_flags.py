"""The flags that say how a session is opened, shared by the subcommands that open one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from shadowattn.runtime.session.modes import AUTO, MODES

if TYPE_CHECKING:  # at run time only where a session is really opened: --help and doctor need none
    from shadowattn.runtime.session.session import Session

_RUN_NAMES = ("num_threads", "executor", "cache_type", "isa", "max_length")
_NAMES = (*_RUN_NAMES, "mode", "keep_ratio", "max_skipped_mass")


def define_session_flags(flag_values: flags.FlagValues) -> None:
    """num_threads, mode, keep_ratio, max_skipped_mass, executor, cache_type, isa, max_length."""
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
    flags.register_validator("keep_ratio", _is_keep_ratio, "wanted auto or a number in (0, 1]", flag_values)
    define_run_flags(flag_values)


def define_run_flags(flag_values: flags.FlagValues) -> None:
    """num_threads, executor, cache_type, isa, max_length: how a session runs, whatever its mode."""
    flags.DEFINE_integer(
        "num_threads", None, "threads (default: all CPUs this process may use)", lower_bound=1, flag_values=flag_values
    )
    flags.DEFINE_enum(
        "executor", "fused", ["fused", "pipelined"], "one graph per chunk, or the split form", flag_values=flag_values
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


def _is_keep_ratio(word: str | None) -> bool:
    try:
        return word is None or word == AUTO or 0 < float(word) <= 1
    except ValueError:
        return False


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


def bundle_argument(positional: list[str], usage: str, at_most: int = 1) -> Path:
    """The first positional argument as a path. Raises flags.Error if it is missing or too many were given."""
    if not positional:
        raise flags.Error(f"wanted a bundle (usage: {usage}), got no argument")
    if len(positional) > at_most:
        raise flags.Error(f"too many arguments: {' '.join(positional[at_most:])!r} (usage: {usage})")
    return Path(positional[0])
