"""A schedule as spans, so that one viewer shows what was planned and what was measured."""

from shadowattn.runtime.scheduling.schedule import Schedule
from shadowattn.runtime.tracing.trace import Span


def predicted_spans(schedule: Schedule, npu: str = "npu", start: float = 0.0) -> list[Span]:
    """npu: what to call the worker of the estimates, which need not be an NPU; the other is `cpu`. start: seconds at
    which the schedule's time begins; until its first launch the cpu waits."""
    workers = {"npu": npu, "cpu": "cpu"}
    first = min(slot.start for slot in schedule.slots)
    found = [Span("wait", "handover", "cpu", start, start + first)] if first else []
    for slot in schedule.slots:
        args = {"group": slot.group, "heads": list(schedule.groups[slot.group].heads)}
        found.append(Span("graph", slot.stage, workers[slot.resource], start + slot.start, start + slot.end, args))
    return found
