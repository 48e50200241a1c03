"""What can be measured inside an inference: the stages that our delegate counts itself (ShadowStats)."""

import dataclasses

from shadowattn.runtime.litert.delegate import CacheStats
from shadowattn.runtime.measure.table import format_table

CSV_HEADER = "stage,total_us,us_per_run,percent_of_inference"
REST = "everything else (XNNPACK, LiteRT's kernels, the calls)"


@dataclasses.dataclass(frozen=True)
class Stage:
    """Wall time of one stage, of all runs together and in microseconds."""

    name: str
    total_us: float
    us_per_run: float
    percent: float


def stages_of(stats: CacheStats, times: list[int]) -> list[Stage]:
    """The delegate's stages and the rest, which is the difference; times: microseconds of the runs they belong to."""
    total = float(sum(times))
    parts = {name: seconds * 1e6 for name, seconds in stats.seconds.items()}
    parts[REST] = max(total - sum(parts.values()), 0.0)
    return [Stage(name, us, us / len(times), 100 * us / total if total else 0.0) for name, us in parts.items()]


def format_stages(stages: list[Stage]) -> list[str]:
    rows = [[stage.name, stage.us_per_run, stage.percent] for stage in stages]
    return format_table(["stage", "us per run", "% of inference"], rows).splitlines()


def csv_of(stages: list[Stage]) -> str:
    lines = [f'"{stage.name}",{stage.total_us:.1f},{stage.us_per_run:.3f},{stage.percent:.3f}' for stage in stages]
    return "\n".join([CSV_HEADER, *lines]) + "\n"


def describe_reads(stats: CacheStats) -> str:
    """How sparse the timed runs were: on random rows that is not what a text would give."""
    if not stats.causal_rows:
        return "The delegate counted no row: no ShadowSparseAttention ran in cache 0"
    share = 100 * stats.value_rows_read / stats.causal_rows
    return (
        f"The delegate attended {stats.rows} rows (of query heads) in the timed runs and read {share:.3g} % of the "
        f"values they see; cache 0 ended at {stats.length} positions, {stats.cache_bytes / 1024**2:.1f} MB"
    )
