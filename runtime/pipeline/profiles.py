"""Where the latency profile of a bundle is, and whether it is this bundle's."""

import warnings
from pathlib import Path

from shadowattn.models.bundle import MODEL, Manifest
from shadowattn.runtime.scheduling.profile import (
    SNAPDRAGON_8_GEN_3,
    BundleIdentity,
    Conditions,
    LatencyProfile,
    read_profile,
)

PUBLISHED = {"snapdragon_8_gen_3": SNAPDRAGON_8_GEN_3}


def default_path(bundle: Path) -> Path:
    """Beside the bundle, since it belongs to this machine and not to the bundle."""
    folder = bundle.absolute()
    return folder.parent / f"{folder.name}.profile.json"


def identity(manifest: Manifest) -> BundleIdentity:
    """What tells a bundle from others."""
    return BundleIdentity(manifest.name, manifest.files[MODEL].sha256)


def find_profile(
    bundle: Path, manifest: Manifest, npu: str, conditions: Conditions, asked: Path | None
) -> LatencyProfile | None:
    """The profile asked for, or else the one beside the bundle; None if there is none. npu: who runs the estimates;
    conditions: the session's. Raises ValueError for one asked for that is another bundle's or another NPU's, was
    measured under other conditions, or cannot be read; one that merely lies there is left aside, with a warning."""
    own = identity(manifest)
    path = asked or default_path(bundle)
    if asked is None and not path.exists():
        return None
    try:
        profile = read_profile(path)
        profile.check_bundle(own.name, own.model_sha256)
        if profile.npu != npu:
            advice = "plan a phone with schedule --soc" if profile.simulated else "measure again with the same --npu"
            raise ValueError(f"the profile's launches are of {profile.npu}, the session's of {npu}; {advice}")
        profile.check_conditions(conditions)
    except ValueError as error:
        if asked is not None:
            raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
        warnings.warn(f"{path} is not used: {error}", RuntimeWarning, stacklevel=2)
        return None
    return profile


def soc_profile(soc: str, own: LatencyProfile) -> LatencyProfile:
    """A phone's launches with this machine's CPU figures, in proportion to the rows of its chunks: SIMULATED.

    soc: a latency file, or a name of PUBLISHED. Raises ValueError.
    """
    phone = read_profile(PUBLISHED.get(soc, Path(soc)))
    if not phone.launch:
        raise ValueError(f"{soc}: lists no launches; wanted a latency file of a phone's NPU")
    return phone.with_cpu_of(own.for_chunk(phone.launch[0].chunk))
