"""The memory lines: what the kernel counts for this process, Python's own share included."""

import resource
from pathlib import Path


def peak_mb() -> float:
    """Largest resident size so far, as the stock tool reads it (ru_maxrss)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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
