"""`shadowattn doctor`: what this installation has, what is missing, and the command that fixes it."""

import dataclasses
import importlib
import importlib.metadata
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags

from shadowattn.runtime.commands.failures import install_command, reinstall_command
from shadowattn.runtime.commands.output import print_json

_PYTHON = (3, 11)
# distribution -> module, and the version that everything was tested with (constraints.txt); the runtime needs them all
PACKAGES = {
    "numpy": ("numpy", "2.4.6"),
    "ai-edge-litert": ("ai_edge_litert.interpreter", "2.3.0"),
    "tokenizers": ("tokenizers", "0.23.3"),
    "jinja2": ("jinja2", "3.1.6"),
    "absl-py": ("absl.flags", "2.5.1"),
}
_BUILD = "cmake -S delegate -B build/delegate && cmake --build build/delegate"


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing looked at. found: what is there, or what is wrong; fix: the command that helps, if it is not ok."""

    what: str
    ok: bool
    found: str
    fix: str = ""


class Doctor:
    """The subcommand; the contract is in shadowattn.runtime.cli."""

    name = "doctor"
    summary = "check this installation: packages, instruction set, delegate; say what is missing and how to fix it"
    usage = "[flags]"
    example = "shadowattn doctor\nshadowattn doctor --json"

    def define_flags(self, flag_values: flags.FlagValues) -> None:
        flags.DEFINE_bool("json", False, "print the checks as one JSON object", flag_values=flag_values)

    def run(self, positional: list[str], flag_values: flags.FlagValues) -> int:
        if positional:
            raise flags.Error(f"doctor takes no arguments, got {positional[0]!r}")
        checks = examine()
        if flag_values.json:
            body = [dataclasses.asdict(check) for check in checks]
            print_json({"ok": all(check.ok for check in checks), "checks": body})
        else:
            print(_report(checks))
        return 0 if all(check.ok for check in checks) else 1


def examine() -> list[Check]:
    """Every check, in the order in which one rests on another; what rests on a fault is left out."""
    checks = [_python(), *(_package(name) for name in PACKAGES), _converter(), _chat()]
    for what, look in _DELEGATE_CHECKS.items():
        checks.append(_guarded(what, look))
        if not checks[-1].ok:
            break
    return checks


def _python() -> Check:
    version = f"{platform.python_version()} ({platform.system()} {platform.machine()}, {sys.executable})"
    wanted = ".".join(map(str, _PYTHON))
    return Check("python", sys.version_info >= _PYTHON, version, f"install Python {wanted} or newer")


def _package(name: str) -> Check:
    """Installed, and importable: a wheel for another platform installs and then does not load. Another version than
    the tested one is no fault, and the first thing to try where something is."""
    module, tested = PACKAGES[name]
    fix = f"pip install --force-reinstall {name}=={tested}"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, "not installed", f"pip install {name}=={tested}")
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken binary package raises anything
        return Check(name, False, f"{version}, does not load: {_line(error)}", fix)
    return Check(name, True, version if version == tested else f"{version} (tested with {tested})")


def _converter() -> Check:
    return _extra("converter", "torch", "only convert needs it")


def _chat() -> Check:
    return _extra("chat", "prompt-toolkit", "a chat is plainer without it")


def _extra(extra: str, package: str, who_needs_it: str) -> Check:
    """An extra is optional: its absence is no fault."""
    try:
        found = f"installed ({package} {importlib.metadata.version(package)})"
    except importlib.metadata.PackageNotFoundError:
        found = f"not installed; {who_needs_it}: {install_command(extra)}"
    return Check(f"{extra} extra", True, found)


def _guarded(what: str, look: Callable[[], str]) -> Check:
    try:
        return Check(what, True, look())
    except Exception as error:  # whatever it is, it is the finding
        in_checkout = (Path(__file__).resolve().parents[2] / "delegate" / "CMakeLists.txt").is_file()
        return Check(what, False, _line(error), _BUILD if in_checkout else reinstall_command())


def _find_library() -> str:
    from shadowattn.runtime.litert.delegate import library_path

    return str(library_path())


def _describe_library() -> str:
    from shadowattn.runtime.litert.delegate import ABI_VERSION, ShadowLibrary, library_path

    return f"version {ABI_VERSION}, {ShadowLibrary(library_path()).build_info}"


def _describe_isa() -> str:
    from shadowattn.runtime.litert.delegate import ShadowLibrary, library_path

    isa = ShadowLibrary(library_path()).best_isa
    return isa + (" (no vector unit that the kernels know: slow)" if isa == "scalar" else "")


def _run_in_interpreter() -> str:
    from shadowattn.runtime.litert.delegate import library_path
    from shadowattn.runtime.litert.probe import run_probe

    return run_probe(library_path())


_DELEGATE_CHECKS = {
    "delegate library": _find_library,
    "delegate ABI": _describe_library,
    "instruction set": _describe_isa,
    "delegate in LiteRT": _run_in_interpreter,
}


def _report(checks: list[Check]) -> str:
    from shadowattn.runtime.measure.table import format_table

    rows = [["ok" if check.ok else "FAULT", check.what, check.found] for check in checks]
    lines = [format_table(["", "what", "found"], rows)]
    faults = [check for check in checks if not check.ok]
    if faults:
        lines += ["", "To fix it:"]
        for command in dict.fromkeys(check.fix for check in faults):
            lines.append(f"  {command}")
    else:
        lines += ["", "Everything is there."]
    return "\n".join(lines)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


COMMAND = Doctor()
