"""A schedule as spans, so that one viewer shows what was planned and what was measured."""

from shadowattn.runtime.scheduling.schedule import Schedule
from shadowattn.runtime.tracing.trace import Span


def predicted_spans(schedule: Schedule, start: float = 0.0) -> list[Span]:
    """Workers are `npu` and `cpu`; start: seconds of the schedule's first launch."""
    found = []
    for slot in schedule.slots:
        args = {"group": slot.group, "heads": list(schedule.groups[slot.group].heads)}
        found.append(Span("graph", slot.stage, slot.resource, start + slot.start, start + slot.end, args))
    return found
