"""One chunk as it really ran: its layers' times, and the spans of all of them."""

import dataclasses
import statistics
from collections.abc import Sequence

from shadowattn.runtime.pipeline.layers import by_layer
from shadowattn.runtime.pipeline.record import ChunkRecord
from shadowattn.runtime.scheduling.schedule import Schedule
from shadowattn.runtime.session.session import Session
from shadowattn.runtime.tracing.trace import Span, Trace


@dataclasses.dataclass(frozen=True)
class MeasuredChunk:
    """layers: seconds of the head groups, layer by layer, of all runs; records: one a run; spans, schedules (by layer):
    of the last run."""

    layers: tuple[float, ...]
    records: tuple[ChunkRecord, ...]
    spans: tuple[Span, ...]
    schedules: tuple[Schedule, ...]

    def middle_layer(self) -> tuple[int, list[Span]]:
        """The last run's layer that took the median time: its number; its estimates, attends and waits."""
        layers = sorted(by_layer(self.spans), key=lambda layer: layer.seconds)
        middle = layers[len(layers) // 2]
        return middle.whole.args["layer"], list(middle.parts)

    def error(self) -> float:
        """Median over the runs of |predicted - measured| / measured, of the whole chunk. Raises ValueError if nothing
        was predicted, because the session planned without a profile of such chunks."""
        predicted = [record.predicted for record in self.records if record.predicted is not None]
        if len(predicted) != len(self.records):
            raise ValueError("nothing was predicted: open the session with a profile that has chunks of this length")
        pairs = zip(predicted, self.records, strict=True)
        return statistics.median(abs(seconds - record.measured) / record.measured for seconds, record in pairs)


def measure_chunk(session: Session, tokens: Sequence[int], chunk: int, runs: int) -> MeasuredChunk:
    """Prefills the tokens, and the last `chunk` of them again, `runs` times. session: of the pipelined executor. Raises
    ValueError if the chunk launches no estimate."""
    executor = session.pipelined
    session.reset()
    session.prefill(tokens)
    layers: list[float] = []
    session.reset_stats()
    for _ in range(runs):
        session.rewind(len(tokens) - chunk)
        executor.clock.trace = Trace()
        session.prefill(tokens[-chunk:])
        spans = executor.clock.trace.spans()
        layers += [span.end - span.start for span in spans if span.name == "groups"]
    executor.clock.trace = None
    if not layers:
        raise ValueError(
            f"no estimate was launched in mode {session.settings.mode}: wanted a sparse mode that reads scores, and a "
            "chunk beyond min_k positions"
        )
    return MeasuredChunk(tuple(layers), tuple(executor.record.chunks), tuple(spans), executor.schedules)
