"""The machine a figure belongs to: processor, cores that may be used, caches, instruction sets, memory."""

import dataclasses
import os
import platform
from pathlib import Path
from typing import Any

_TELLING_FLAGS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "sve"),
)


@dataclasses.dataclass(frozen=True)
class Cpu:
    """A logical CPU, as in `lscpu -e`. core, package: None where the kernel does not tell. caches: "L1d 48K", ..."""

    number: int
    core: int | None
    package: int | None
    siblings: str
    caches: tuple[str, ...]

    @property
    def place(self) -> tuple[int | None, int | None]:
        """Logical CPUs of the same place share a physical core."""
        return (self.package, self.number if self.core is None else self.core)


def topology(root: Path = Path("/")) -> list[Cpu]:
    """The logical CPUs that this process may run on. root: where /sys is looked for (tests pass a folder)."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    found = []
    for number in allowed:
        folder = root / f"sys/devices/system/cpu/cpu{number}"
        core, package = (_number(folder / "topology" / name) for name in ("core_id", "physical_package_id"))
        siblings = _word(folder / "topology" / "thread_siblings_list") or str(number)
        found.append(Cpu(number, core, package, siblings, _caches(folder / "cache")))
    return found


def cores_for(num_threads: int, cpus: list[Cpu]) -> list[int]:
    """Which logical CPUs to pin to: physical cores first, then their siblings. Raises ValueError."""
    if num_threads > len(cpus):
        raise ValueError(f"--num_threads: wanted at most the {len(cpus)} CPUs of this process, got {num_threads}")
    first: dict[tuple[int | None, int | None], Cpu] = {}
    for cpu in cpus:
        first.setdefault(cpu.place, cpu)
    alone = list(first.values())
    others = [cpu for cpu in cpus if cpu not in alone]
    return [cpu.number for cpu in [*alone, *others][:num_threads]]


def cpu_flags() -> set[str]:
    """Of the first processor, in the kernel's words."""
    info = _cpuinfo()
    return set((info.get("flags") or info.get("Features") or "").split())


def describe(cpus: list[Cpu]) -> dict[str, Any]:
    """For the JSON of a result."""
    info, flags = _cpuinfo(), cpu_flags()
    return {
        "processor": info.get("model name") or platform.processor() or platform.machine(),
        "family_model_stepping": "/".join(info.get(key, "?") for key in ("cpu family", "model", "stepping")),
        "architecture": platform.machine(),
        "flags": [flag for flag in _TELLING_FLAGS if flag in flags],
        "virtual": "hypervisor" in flags,
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "cpus": [dataclasses.asdict(cpu) for cpu in cpus],
        "physical_cores": len({cpu.place for cpu in cpus}),
    }


def in_words(machine: dict[str, Any]) -> str:
    """One paragraph of what describe() returned."""
    cpus = machine["cpus"]
    kind = "a virtual machine with " if machine["virtual"] else ""
    cores = f"{kind}{len(cpus)} logical CPUs on {machine['physical_cores']} physical cores"
    caches = ", ".join(cpus[0]["caches"]) if cpus else "unknown"
    return (
        f"{machine['processor']} (family/model/stepping {machine['family_model_stepping']}), {cores}, caches of CPU "
        f"{cpus[0]['number'] if cpus else 0}: {caches}; {', '.join(machine['flags'])}; {machine['memory_gib']} GiB; "
        f"Linux {machine['kernel']}, Python {machine['python']}; load average when it began: "
        f"{machine['load_average'][0]}"
    )


def _caches(folder: Path) -> tuple[str, ...]:
    found = []
    for index in sorted(folder.glob("index*")):
        kind = {"Data": "d", "Instruction": "i"}.get(_word(index / "type"), "")
        shared = _word(index / "shared_cpu_list")
        found.append(f"L{_word(index / 'level')}{kind} {_word(index / 'size')} (CPU {shared})")
    return tuple(found)


def _cpuinfo() -> dict[str, str]:
    """The first processor of /proc/cpuinfo."""
    try:
        block = Path("/proc/cpuinfo").read_text("ascii", "replace").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _number(file: Path) -> int | None:
    text = _word(file)
    return int(text) if text.lstrip("-").isdecimal() else None


def _word(file: Path) -> str:
    try:
        return file.read_text("ascii").strip()
    except OSError:
        return ""
