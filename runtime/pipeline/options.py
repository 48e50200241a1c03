"""What a session of the pipelined executor is told beside its cache settings."""

import dataclasses
import math

from shadowattn.runtime.executor.stages import Scales
from shadowattn.runtime.npu.choice import NpuChoice
from shadowattn.runtime.scheduling.planners import PLANNERS
from shadowattn.runtime.scheduling.profile import LatencyProfile

OFF = "off"  # a planner's place: one stage after the other
AUTO = "auto"
HOST = NpuChoice()
SCALES = {"rank": Scales.RANK, "nearest": Scales.NEAREST, "log": Scales.LOG, "one": Scales.ONE}


@dataclasses.dataclass(frozen=True)
class PipelineOptions:
    """npu: who runs the estimate graphs. scales: auto (the grid's nearest in mode shadow_paper where the bundle has a
    grid, else rank) or one of SCALES. planner: one of PLANNERS, or off. heads: numbers of heads that a launch may have;
    None: all that the bundle has. depth: estimate buffers. profile: latencies to plan with; None: every head costs the
    same. launch_ms: EMULATED, the estimate's worker sleeps so long before every launch. Raises ValueError."""

    npu: NpuChoice = HOST
    scales: str = AUTO
    planner: str = "best"
    heads: tuple[int, ...] | None = None
    depth: int = 2
    profile: LatencyProfile | None = None
    launch_ms: float = 0.0

    def __post_init__(self) -> None:
        _one_of("scales", self.scales, (AUTO, *SCALES))
        _one_of("planner", self.planner, (*PLANNERS, OFF))
        if self.heads is not None and not (self.heads and all(map(_is_count, self.heads))):
            raise ValueError(f"heads must be numbers of heads of a launch, at least 1, got {self.heads!r}")
        if not _is_count(self.depth):
            raise ValueError(f"depth is the number of estimate buffers, at least 1, got {self.depth!r}")
        if not 0 <= self.launch_ms < math.inf:
            raise ValueError(f"launch_ms must be at least 0, got {self.launch_ms}")

    def scales_for(self, mode: str, has_grid: bool) -> Scales:
        """Those of a mode in a bundle. Raises ValueError for a grid that the bundle lacks."""
        if self.scales == AUTO:
            return Scales.NEAREST if mode == "shadow_paper" and has_grid else Scales.RANK
        chosen = SCALES[self.scales]
        if chosen != Scales.RANK and not has_grid:
            raise ValueError(
                f"scales={self.scales}: the bundle has no scale grid; convert again with --grid_multipliers"
            )
        return chosen


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
