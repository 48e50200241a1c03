"""The RoPE keys of a config.json -> RopeSpec, with the values that transformers 5 takes.

rope_scaling (older) or rope_parameters holds the scaling; where both do, rope_scaling counts. What neither transformers
nor this reader would use is refused by name, so that no parameter is dropped silently.
"""

from typing import Any

from shadowattn.models.config_fields import Config, count, number
from shadowattn.models.spec import RopeSpec

# Kind of scaling -> the keys it cannot do without.
_NEEDED = {
    "default": (),
    "dynamic": ("factor",),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}
_ORIGINAL = "original_max_position_embeddings"
_OF_EVERY_KIND = ("type", "rope_type", "rope_theta", "partial_rotary_factor", _ORIGINAL)
_NEUTRAL = {"factor": 1.0, "attention_factor": 1.0}  # a value that changes nothing, whatever the kind


def read_rope(config: Config) -> RopeSpec:
    """Raises ValueError for a kind, key or value that cannot be converted."""
    name, scaling = _scaling(config)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if not isinstance(kind, str) or kind not in _NEEDED:
        raise ValueError(f"{name}: RoPE type {kind!r:.60} is not supported; supported are {', '.join(_NEEDED)}")
    _refuse_other_keys(name, kind, scaling)
    missing = [key for key in _NEEDED[kind] if key not in scaling]
    if missing:
        raise ValueError(f"{name}: RoPE type {kind!r} lacks {', '.join(missing)}; get the model's config again")
    both = {**config, **scaling}
    theta = number(both, "rope_theta", 10000.0)
    if both.get("partial_rotary_factor") is not None and number(both, "partial_rotary_factor", 1.0) != 1.0:
        raise ValueError("partial_rotary_factor other than 1.0 is not supported; use another model")
    if kind == "default":
        return RopeSpec(theta)
    factor = number(scaling, "factor", 1.0)
    if kind == "dynamic":
        return RopeSpec(theta)  # It scales positions from max_position_embeddings on, and a bundle has none of those.
    longest = count(config, "max_position_embeddings")
    if kind == "linear":
        return RopeSpec(theta, kind, factor, original_max_length=longest)
    low, high = number(scaling, "low_freq_factor", 1.0), number(scaling, "high_freq_factor", 4.0)
    # Beside the dictionary it counts more than inside, as in transformers.
    original = count(config, _ORIGINAL, count(scaling, _ORIGINAL, longest))
    return RopeSpec(theta, kind, factor, low, high, original)


def _scaling(config: Config) -> tuple[str, dict[str, Any]]:
    """The name and content of the dictionary that counts; empty if the config has neither."""
    for name in ("rope_scaling", "rope_parameters"):
        if value := config.get(name):
            if not isinstance(value, dict):
                raise ValueError(f"{name} must be an object, got {value!r:.60}; get the model's config again")
            return name, value
    return "rope_parameters", {}


def _refuse_other_keys(name: str, kind: str, scaling: dict[str, Any]) -> None:
    known = (*_OF_EVERY_KIND, *_NEEDED[kind])
    for key, value in scaling.items():
        if key in known or value is None or value == _NEUTRAL.get(key):
            continue
        if isinstance(value, dict):
            raise ValueError(
                f"{name}.{key:.60} holds parameters for some of the layers, which is not supported; use another model"
            )
        raise ValueError(
            f"{name}.{key:.60} = {value!r:.60} is not understood for RoPE type {kind!r}; "
            "remove it only if the model was trained without it"
        )
