"""A failure in one line: what happened, where, and a next step that works where shadowattn is on no package index."""

import errno
import importlib.metadata
import json
import re
import shlex

DISTRIBUTION = "shadowattn"
_OUT_OF_MEMORY = (
    *("Cannot allocate memory", "cannot allocate", "failed to map segment", "bad_alloc", "Failed to mmap"),
    "Resource temporarily unavailable",  # a thread, for which there is no stack
    "failed to create XNNPACK runtime",  # which says no more; every other reason shows when a bundle is converted
)
_REPEATED = re.compile(r"(.{12,}?)\1+")


def describe_error(error: BaseException, name: str, extra: str | None = None) -> str:
    """One line for a failure: what happened, where, and where we know it the next step."""
    text = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("shadowattn"):
        return f"this installation is incomplete ({text}); reinstall with: {reinstall_command()}"
    if isinstance(error, ModuleNotFoundError):
        command = install_command(extra)
        return f"{name} needs packages that are not installed ({text}); install them with: {command}"
    if (sentence := _about_memory(error, text)) is not None:
        return sentence
    if isinstance(error, UnicodeDecodeError):
        return f"text is not UTF-8 ({text}); convert it to UTF-8 first"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, (ValueError, RuntimeError, OSError)):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text} (a defect of shadowattn: run again with --verbosity=1 and report it)"


def install_command(extra: str | None) -> str:
    """What installs the packages of an extra (None: those of the runtime), for any index that has those packages:
    shadowattn itself may be on none."""
    wanted = f'extra == "{extra}"' if extra else ""
    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return f"pip install '.[{extra}]'" if extra else "pip install ."  # a checkout
    parts = [line.partition(";") for line in lines]
    found = [need.strip() for need, _, marker in parts if marker.strip().replace("'", '"') == wanted]
    return f"pip install {shlex.join(found)}"


def reinstall_command() -> str:
    """What installs this package again from where it came: a file, a folder, or an index that has it."""
    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "pip install ."  # a checkout
    origin = distribution.read_text("direct_url.json")
    what = json.loads(origin)["url"] if origin else f"{DISTRIBUTION}=={distribution.version}"
    return f"pip install --force-reinstall --no-deps {shlex.quote(what)}"


def _about_memory(error: BaseException, text: str) -> str | None:
    """Where the memory or the address space ends, loaders, threads and C++ say so each in their own way. None: it is
    not about memory."""
    advice = "use a shorter prompt, fewer threads (-t), or a machine with more"
    if isinstance(error, ImportError) and any(sign in text for sign in _OUT_OF_MEMORY):
        return f"not enough memory to load {error.name or 'a library'} ({text.rpartition(': ')[2][:80]}); {advice}"
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return f"not enough memory{': ' + text if text else ''}; {advice}"
    if isinstance(error, (OSError, RuntimeError, ValueError)) and any(sign in text for sign in _OUT_OF_MEMORY):
        once = _REPEATED.sub(r"\1", text)
        return f"not enough memory: {once}; {advice}"
    return None
