"""A latency profile and a model's layout -> the problem of one layer and chunk."""

import dataclasses
from collections.abc import Sequence

from shadowattn.models.spec import ModelSpec
from shadowattn.runtime.scheduling.problem import Problem, can_launch
from shadowattn.runtime.scheduling.profile import LatencyProfile


@dataclasses.dataclass(frozen=True)
class Shape:
    """One prefill chunk: chunk: T; seq_len: bucket length S; kv_len: positions in the cache when the chunk is done."""

    chunk: int
    seq_len: int
    kv_len: int


def problem(profile: LatencyProfile, model: ModelSpec, shape: Shape, buckets: Sequence[int], depth: int = 2) -> Problem:
    """buckets: of scales, by query head. Numbers of heads that are no group of this model are left out. Raises
    ValueError where the profile lacks the chunk, or every launch of it is left out."""
    launches = profile.launch_seconds(shape.chunk, shape.seq_len)
    usable = {
        count: seconds for count, seconds in launches.items() if can_launch(count, model.group_size, model.num_heads)
    }
    if not usable:
        raise ValueError(
            f"the profile has launches of {', '.join(map(str, launches))} heads, none is a group of "
            f"{model.num_heads} heads in units of {model.group_size}"
        )
    cpu = profile.cpu_seconds(shape.chunk, shape.kv_len)
    return Problem(
        group_size=model.group_size,
        buckets=tuple(buckets),
        launch_seconds=usable,
        select_seconds=(cpu.select_seconds,) * model.num_heads,
        attend_seconds=(cpu.attend_seconds,) * model.num_heads,
        depth=depth,
        group_seconds=cpu.group_seconds,
        handover_seconds=cpu.handover_seconds if depth > 1 else 0.0,
    )
