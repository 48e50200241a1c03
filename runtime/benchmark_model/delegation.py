"""Who runs the nodes, in words: what the delegate took, what XNNPACK took, and loudly what nobody took."""

import collections
from collections.abc import Iterable, Sequence

from shadowattn.runtime.benchmark_model.log import Log
from shadowattn.runtime.litert.interpreter import op_name
from shadowattn.runtime.litert.nodes import Node

_EXTERNAL = "shadow"  # NodeProbe's name for the delegate whose pointer it was given


def report_delegation(log: Log, nodes: Sequence[Node], delegated: bool) -> None:
    """delegated: an external delegate was applied."""
    taken = [node for node in nodes if node.runner == _EXTERNAL]
    if delegated:
        _report_external(log, taken, nodes)
    for runner, group in sorted(_by_runner(nodes).items()):
        name = "EXTERNAL delegate" if runner == _EXTERNAL else runner
        log.info(f"Nodes run by {name}: {len(group)} of {len(nodes)} ({_counts(group)})")
    slow = [node for node in nodes if node.must_be_xnnpack and node.runner == "litert builtin"]
    if slow:
        log.warn(f"{len(slow)} matrix products ({_counts(slow)}) run in LiteRT's builtin kernels and not in XNNPACK: "
                 "many times slower")  # fmt: skip
    rest = [node for node in nodes if node.runner == "litert builtin" and not node.must_be_xnnpack]
    if rest:
        log.warn(f"{len(rest)} of {len(nodes)} nodes are not delegated, LiteRT's builtin kernels run them: "
                 f"{_counts(rest)}")  # fmt: skip


def _report_external(log: Log, taken: Sequence[Node], nodes: Sequence[Node]) -> None:
    if not taken:
        log.warn("Though EXTERNAL delegate is explicitly applied, the model graph will not be executed by the "
                 "delegate: it claimed no node, and what is timed below is not the delegate")  # fmt: skip
    elif len(taken) == len(nodes):
        log.info(
            "Explicitly applied EXTERNAL delegate, and the model graph will be completely executed by the delegate."
        )
    else:
        log.info(f"Explicitly applied EXTERNAL delegate, and the model graph will be partially executed by the "
                 f"delegate ({len(taken)} of {len(nodes)} nodes).")  # fmt: skip


def _by_runner(nodes: Iterable[Node]) -> dict[str, list[Node]]:
    groups: dict[str, list[Node]] = collections.defaultdict(list)
    for node in nodes:
        groups[node.runner].append(node)
    return groups


def _counts(nodes: Iterable[Node]) -> str:
    """`30 FULLY_CONNECTED, 2 ADD`, the most first."""
    counts = collections.Counter(op_name(node) for node in nodes)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())
