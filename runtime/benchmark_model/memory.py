"""The memory lines: what the kernel counts for this process, Python's own share included."""

import sys
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


def peak_mb() -> float | None:
    """Largest resident size so far, as the stock tool reads it on Linux (ru_maxrss); None where nobody counts it."""
    if resource is None:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def status_lines() -> list[str]:
    """Resident memory now, by kind; nothing where there is no /proc."""
    try:
        status = Path("/proc/self/status").read_text("utf-8", "replace")
    except OSError:
        return []
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    kib = {key: int(fields[key].split()[0]) for key in ("VmRSS", "RssAnon", "RssFile", "RssShmem") if key in fields}
    if len(kib) != 4:
        return []
    return [
        "Memory status at the end of execution:",
        f"- VmRSS              : {kib['VmRSS'] >> 10} MB",
        f"+ RssAnnon           : {kib['RssAnon'] >> 10} MB",
        f"+ RssFile + RssShmem : {(kib['RssFile'] + kib['RssShmem']) >> 10} MB",
    ]
