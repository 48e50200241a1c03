"""The head groups of a trace, layer by layer: their stages, and what a layer took beside these."""

import dataclasses
from collections.abc import Sequence

from shadowattn.runtime.scheduling.problem import Work
from shadowattn.runtime.scheduling.timing import makespan
from shadowattn.runtime.tracing.trace import Span


@dataclasses.dataclass(frozen=True)
class LayerSpans:
    """One layer of one chunk. whole: its span `groups`; parts: the estimates, attends and waits inside, by start."""

    whole: Span
    parts: tuple[Span, ...]

    @property
    def seconds(self) -> float:
        return self.whole.end - self.whole.start

    def work(self) -> list[Work]:
        """Seconds of every group's estimate, and of its select and attend, in launch order."""
        found = {
            (span.args["group"], span.name): span.end - span.start
            for span in self.parts
            if span.name in ("estimate", "attend")
        }
        groups = sorted({group for group, _ in found})
        return [(found[group, "estimate"], found[group, "attend"]) for group in groups]

    def handover(self, depth: int) -> float:
        """Seconds beyond those that these stages need with so many buffers if a worker begins at once what it may:
        waking the other worker, queues, Python."""
        return max(0.0, self.seconds - makespan(self.work(), depth))


def by_layer(spans: Sequence[Span]) -> list[LayerSpans]:
    """spans: by start, as a trace gives them; all of a layer lies between the ends of its `groups`."""
    found = []
    for place, whole in enumerate(spans):
        if whole.name != "groups":
            continue
        parts = []
        for span in spans[place + 1 :]:
            if span.start > whole.end:
                break
            if span.end <= whole.end:
                parts.append(span)
        found.append(LayerSpans(whole, tuple(parts)))
    return found
