"""A failure in one line: what happened, where, and a next step that works where shadowattn is on no package index."""

import errno
import importlib.metadata
import json
import shlex

DISTRIBUTION = "shadowattn"


def describe_error(error: BaseException, name: str, extra: str | None = None) -> str:
    """One line for a failure: what happened, where, and where we know it the next step."""
    text = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("shadowattn"):
        return f"this installation is incomplete ({text}); reinstall with: {reinstall_command()}"
    if isinstance(error, ModuleNotFoundError):
        command = install_command(extra)
        return f"{name} needs packages that are not installed ({text}); install them with: {command}"
    if _is_about_memory(error, text):
        return f"not enough memory{': ' + text if text else ''}; use a shorter prompt or a machine with more"
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
        return f"pip install '.[{extra}]' (in the checkout)" if extra else "pip install . (in the checkout)"
    parts = [line.partition(";") for line in lines]
    found = [need.strip() for need, _, marker in parts if marker.strip().replace("'", '"') == wanted]
    return f"pip install {shlex.join(found)}"


def reinstall_command() -> str:
    """What installs this package again from where it came."""
    command = "pip install --force-reinstall --no-deps"
    try:
        text = importlib.metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return f"{command} . (in the checkout)"
    url = json.loads(text).get("url") if text else None
    return f"{command} {shlex.quote(url) if url else 'WHEEL (the file that you installed from)'}"


def _is_about_memory(error: BaseException, text: str) -> bool:
    """Where the address space ends, loaders, mmap and C++ say so each in their own way."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    signs = ("Cannot allocate memory", "failed to map segment", "bad_alloc", "cannot allocate", "Failed to mmap")
    return isinstance(error, (ImportError, OSError, RuntimeError, ValueError)) and any(sign in text for sign in signs)
