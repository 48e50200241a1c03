"""What is to be run: the model file, its signature, the delegate and the delegate's options."""

import ctypes
import dataclasses
from collections.abc import Iterable
from pathlib import Path

from shadowattn.models.bundle import MANIFEST, MODEL, Manifest, read_manifest
from shadowattn.runtime.litert.delegate import ShadowLibrary, library_path
from shadowattn.runtime.session.modes import AUTO


@dataclasses.dataclass(frozen=True)
class Target:
    """signature: "" where the file has only one, or none. shadow: the library's own interface if it is ours."""

    model: Path
    signature: str
    library: Path | None
    options: dict[str, str]
    shadow: ShadowLibrary | None


def choose_target(graph: str, signature: str, library: str, options: dict[str, str], num_threads: int) -> Target:
    """A .tflite as the flags say it; for a bundle also our delegate and its options. Raises ValueError."""
    path = Path(graph)
    if path.is_dir() or (path.name == MANIFEST and path.is_file()):
        return _bundle_target(path if path.is_dir() else path.parent, signature, library, options, num_threads)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; --graph wants a .tflite file or a bundle folder")
    if options and not library:
        raise ValueError(f"--external_delegate_options is for a delegate, but --graph={path} has none; "
                         "add --external_delegate_path, or name the bundle folder in --graph")  # fmt: skip
    chosen = _plugin(library) if library else None
    return Target(path, signature, chosen, options, _shadow_library(chosen))


def pick_signature(found: Iterable[str], wanted: str, where: str) -> str:
    """The wanted signature, or the only one; "" if the model has no signature. Raises ValueError that lists them."""
    names = list(found)
    if wanted in names:
        return wanted
    if not names and not wanted:
        return ""
    if len(names) == 1 and not wanted:
        return names[0]
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    raise ValueError(
        f"{where}: wanted one of its {len(names)} signatures, got {repr(wanted) if wanted else 'none'}; add "
        f"--signature_to_run_for=NAME with one of: {shown or '(the file has no signatures: leave the flag out)'}"
    )


def _bundle_target(bundle: Path, signature: str, library: str, options: dict[str, str], num_threads: int) -> Target:
    manifest = read_manifest(bundle)
    chosen = pick_signature([graph.signature for graph in manifest.graphs], signature, str(bundle))
    path = _plugin(library) if library else library_path()
    shadow = _shadow_library(path)
    if shadow is not None:
        options = _bundle_options(bundle, manifest, chosen, num_threads) | options
    return Target(bundle / MODEL, chosen, path, options, shadow)


def _bundle_options(bundle: Path, manifest: Manifest, signature: str, num_threads: int) -> dict[str, str]:
    """What a session of the bundle would pass; weights are packed for the one signature alone."""
    return {
        "plan": str(bundle / manifest.plan_file),
        "signatures": signature,
        "num_threads": str(max(num_threads, 1)),
        "max_length": str(manifest.max_length),
        "keep_ratio": AUTO if manifest.keep_ratio is None else str(manifest.keep_ratio),
    }


def _plugin(library: str) -> Path:
    """The library of a delegate. Looked at before LiteRT does: its destructor fails for what it could not load."""
    path = Path(library).absolute()  # a bare name would be looked for where the system keeps its libraries
    if not path.is_file():
        raise ValueError(
            f"--external_delegate_path={library}: there is no such file; `shadowattn doctor` says where our delegate is"
        )
    try:
        plugin = ctypes.CDLL(str(path))
        for side in ("create", "destroy"):
            getattr(plugin, f"tflite_plugin_{side}_delegate")
    except (OSError, AttributeError) as error:
        raise ValueError(
            f"--external_delegate_path={library}: wanted an external delegate for this machine, got ({error}); give "
            "another library, or build it again"
        ) from None
    return path


def _shadow_library(path: Path | None) -> ShadowLibrary | None:
    """None for a library that is not ours: it may be a good delegate all the same."""
    try:
        return None if path is None else ShadowLibrary(path)
    except ValueError:
        return None
