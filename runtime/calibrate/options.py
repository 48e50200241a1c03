"""What `shadowattn calibrate` is asked for, checked."""

import dataclasses
from collections.abc import Mapping
from typing import Any

WINDOW = 2048  # tokens of a window; bundles of shorter contexts take theirs


@dataclasses.dataclass(frozen=True)
class Effort:
    """Windows that are observed; windows that were not, on which the loss is measured; tokens of one longer window, for
    the table only (0: none); tokens of the window on which heads are left out (paper's budgets)."""

    windows: int
    held_out: int
    longest: int
    ablation_tokens: int


EFFORTS = {
    "quick": Effort(windows=1, held_out=1, longest=0, ablation_tokens=256),
    "default": Effort(windows=4, held_out=2, longest=4096, ablation_tokens=512),
    "long": Effort(windows=16, held_out=6, longest=16384, ablation_tokens=2048),
}


@dataclasses.dataclass(frozen=True)
class CalibrateOptions:
    """texts: files, none for Python's own documentation. tokens: of the observed windows together, None for what the
    effort says. paper_budgets: also the ablation of the paper, which takes two runs per head. budget_clamp: its bound.
    session: keyword arguments of Session.open. Raises ValueError that names the flag."""

    texts: tuple[str, ...] = ()
    tokens: int | None = None
    effort: str = "default"
    paper_budgets: bool = False
    budget_clamp: float = 1e-3
    session: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.effort not in EFFORTS:
            raise ValueError(f"--effort: wanted one of {', '.join(EFFORTS)}, got {self.effort!r}")
        if self.tokens is not None and self.tokens < 1:
            raise ValueError(f"--tokens: wanted at least 1, got {self.tokens}")
        if not self.budget_clamp > 0:
            raise ValueError(f"--budget_clamp: wanted a number above 0, got {self.budget_clamp}")
        if self.session.get("executor", "fused") != "fused":
            raise ValueError("--executor: only the fused form can be observed; leave the flag out")

    @property
    def amount(self) -> Effort:
        return EFFORTS[self.effort]
