"""What a session did: the delegate's counts of its cache and the executor's clock, put together."""

import dataclasses
from collections.abc import Mapping

from shadowattn.runtime.litert.delegate import CacheStats


@dataclasses.dataclass(frozen=True)
class SessionStats:
    """What a session did since it was opened or reset_stats().

    rows: (query row, head) pairs attended; causal_rows: positions they could see, summed; value_rows_read: positions
    they read, summed; mean_keep_ratio: the quotient (1.0 before the first row); k_saturated: INT8 elements of K that
    were clamped; rows_not_compensated: rows whose scores were too coarse or saturated for it; scored_share: pages
    that rows of mode shadow scored, of those they could see (1.0 before the first); cache_bytes: held now;
    copied_bytes: copied between split graphs. seconds: wall time; `total` holds all stages, which are append, estimate,
    select, attend and, in the pipelined executor, linear, copy, groups (estimate, select and attend together) and waits
    of either worker; there estimates run beside the others.
    """

    rows: int
    causal_rows: int
    value_rows_read: int
    mean_keep_ratio: float
    k_saturated: int
    rows_not_compensated: int
    scored_share: float
    cache_bytes: int
    copied_bytes: int
    seconds: dict[str, float]


def session_stats(cache: CacheStats, seconds: Mapping[str, float], copied_bytes: int) -> SessionStats:
    """The op's stages are the delegate's own; the estimate graph runs outside it, so its time is added to the op's."""
    stages = {**seconds, **cache.seconds}
    stages["estimate"] += seconds.get("estimate", 0.0)
    return SessionStats(
        rows=cache.rows,
        causal_rows=cache.causal_rows,
        value_rows_read=cache.value_rows_read,
        mean_keep_ratio=cache.value_rows_read / cache.causal_rows if cache.causal_rows else 1.0,
        k_saturated=cache.k_saturated,
        rows_not_compensated=cache.rows_not_compensated,
        scored_share=cache.pages_scored / cache.pages if cache.pages else 1.0,
        cache_bytes=cache.cache_bytes,
        copied_bytes=copied_bytes,
        seconds=stages,
    )
