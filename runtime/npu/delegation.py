"""What the delegate really took of each estimate graph: read from LiteRT's execution plan, not from what was asked.

A node that a delegate took is the delegate's: whether its driver computes it on an NPU cannot be seen from here.
"""

import dataclasses
import enum
import warnings

from shadowattn.runtime.litert.interpreter import check_runners, op_name
from shadowattn.runtime.litert.nodes import Node
from shadowattn.runtime.npu.choice import NpuChoice

_MOST_NAMED = 4


class Extent(enum.Enum):
    """How much of a graph its delegate runs."""

    TAKEN = "taken"
    PARTLY = "partly"
    NOT_AT_ALL = "not at all"


@dataclasses.dataclass(frozen=True)
class Delegation:
    """The nodes of one prepared graph, in the file's order, with who runs them."""

    graph: str
    nodes: tuple[Node, ...]

    @property
    def left(self) -> tuple[Node, ...]:
        """Those that LiteRT runs on the CPU."""
        return tuple(node for node in self.nodes if node.on_host)

    @property
    def extent(self) -> Extent:
        if len(self.left) == len(self.nodes):
            return Extent.NOT_AT_ALL
        return Extent.PARTLY if self.left else Extent.TAKEN

    def left_in_words(self) -> str:
        """`node 0 BATCH_MATMUL (xnnpack), ...`; empty if all was taken."""
        named = [f"node {node.index} {op_name(node)} ({node.runner})" for node in self.left[:_MOST_NAMED]]
        more = len(self.left) - len(named)
        return ", ".join([*named, f"and {more} more"] if more else named)


def judge(delegation: Delegation, choice: NpuChoice) -> None:
    """Warns aloud of what is not as it was asked for; RuntimeError where the choice requires the NPU.

    On the host the graph belongs to XNNPACK: LiteRT's builtin kernels are many times slower.
    """
    if choice.on_host:
        check_runners(delegation.graph, delegation.nodes)
        return
    if not delegation.left:
        return
    verb = "run" if len(delegation.left) > 1 else "runs"
    finding = (
        f"{delegation.graph}: {choice.name}: {delegation.extent.value}: {delegation.left_in_words()} {verb} on the CPU "
        "as host INT8"
    )
    if choice.require:
        raise RuntimeError(f"{finding}, which require_npu forbids; see the delegate's log, or do without require_npu")
    warnings.warn(finding, RuntimeWarning, stacklevel=2)
