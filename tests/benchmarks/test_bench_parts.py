"""The parts of `make bench` that need no model: oracle, comparisons, machine, instruction sets, pictures."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import attention_rows
import colors
import dense_kernels
import isa_limit
import machine
import numpy as np
import pytest
import speed_plots
from answers import Oracle
from attention_kernel import BFLOAT16, FLOAT32, INT8, SPARSE, STORED, DenseTask, Task
from cli_runner import environment
from gemm_peaks import Peaks, higher
from interleaved import time_interleaved
from recorded import Rows

SEED = 7


class Answer:
    """A kernel that has an answer already, [n,H,d]."""

    ours = False

    def __init__(self, name: str, exactness: str, output: np.ndarray) -> None:
        self.name = name
        self.exactness = exactness
        self._output = output

    def prefill(self, rows: Rows) -> Task:
        return DenseTask(lambda _: self._output, lambda output: output.transpose(1, 0, 2))

    def decode(self, rows: Rows, steps: int) -> Task:
        raise AssertionError("not asked here")


def random_rows(n: int = 40, tiled: bool = False) -> Rows:
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    q = random.standard_normal((n, 4, 8), np.float32)
    k, v = (random.standard_normal((n, 2, 8), np.float32) for _ in range(2))
    return Rows(0, q, k, v, 8**-0.5, tiled)


def attend(rows: Rows) -> np.ndarray:
    """Plain float32 causal attention [n,H,d]."""
    keys, values = (np.repeat(side, rows.group, axis=1) for side in (rows.k, rows.v))
    logits = np.einsum("thd,shd->hts", rows.q, keys) * np.float32(rows.scale)
    logits[:, ~np.tri(len(rows.q), dtype=bool)] = -np.inf
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return np.einsum("hts,shd->thd", weights / weights.sum(-1, keepdims=True), values).astype(np.float32)


def test_a_right_answer_passes() -> None:
    rows = random_rows()
    oracle = Oracle(rows, 0, len(rows.q))
    assert oracle.check(Answer("right", FLOAT32, attend(rows)), attend(rows)) < 1e-6
    k, v = (side.astype(np.float16).astype(np.float32) for side in (rows.k, rows.v))
    stored = attend(Rows(0, rows.q, k, v, rows.scale))
    assert oracle.check(Answer("stored", STORED, stored), stored) < 1e-6


@pytest.mark.parametrize("exactness", [FLOAT32, STORED, BFLOAT16, INT8, SPARSE])
def test_wrong_answers_are_refused(exactness: str) -> None:
    rows = random_rows()
    right = attend(rows)
    not_causal = np.broadcast_to(np.repeat(rows.v, rows.group, axis=1).mean(axis=0), right.shape)
    nan = right.copy()
    nan[-1, 0, 0] = np.nan
    for wrong in (0 * right, np.roll(right, 1, axis=1), not_causal, nan, right[:, :, ::-1]):
        with pytest.raises(ValueError, match="wrong: WRONG ANSWER"):
            Oracle(rows, 0, len(rows.q)).check(Answer("wrong", exactness, wrong), wrong)


def test_float32_leaves_no_room_for_float16() -> None:
    rows = random_rows()
    k, v = (side.astype(np.float16).astype(np.float32) for side in (rows.k, rows.v))
    rounded = attend(Rows(0, rows.q, k, v, rows.scale))
    with pytest.raises(ValueError, match="times further off than float32 allows"):
        Oracle(rows, 0, len(rows.q)).check(Answer("rounded", FLOAT32, rounded), rounded)


def test_nothing_is_timed_after_a_wrong_answer() -> None:
    rows = random_rows()
    kernels = [Answer("right", FLOAT32, attend(rows)), Answer("wrong", FLOAT32, 0 * attend(rows))]
    runs: list[str] = []

    class Counted:
        def __init__(self, kernel: Answer) -> None:
            self._kernel = kernel
            self._task = kernel.prefill(rows)

        def run(self) -> float:
            runs.append(self._kernel.name)
            return self._task.run()

        def output(self) -> np.ndarray:
            return self._task.output()

        def take_stats(self) -> None:
            return None

    tasks = [(kernel, Counted(kernel)) for kernel in kernels]
    with pytest.raises(ValueError, match="wrong: WRONG ANSWER"):
        time_interleaved(tasks, 3, Oracle(rows, 0, len(rows.q)).check)
    assert runs == ["right", "wrong"]
    runs.clear()
    [timing, _] = time_interleaved([tasks[0], tasks[0]], 3, Oracle(rows, 0, len(rows.q)).check)
    assert len(timing.seconds) == 3
    assert len(runs) == 2 * (1 + 3)


def test_a_kernel_that_does_not_run_here_is_skipped_with_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows()

    def missing(num_threads: int) -> Any:
        raise ImportError("No module named 'absent'")

    kernels = [Answer("broken", FLOAT32, attend(rows))]  # its decode raises
    monkeypatch.setattr(dense_kernels, "_MAKERS", {"absent": missing, "there": lambda num_threads: kernels})
    found, skipped = dense_kernels.dense_kernels(1)
    assert found == []
    assert skipped["absent"] == "not importable (No module named 'absent')"
    assert skipped["broken"] == "does not run here (not asked here)"


def row(kernel: str, length: int, ms: float, **more: Any) -> dict[str, Any]:
    facts = {"phase": "prefill", "kernel": kernel, "length": length, "ms": ms, "ms_by_layer": {0: ms}, "gflops": 10.0}
    return facts | {"exactness": FLOAT32, "ours": False} | more


def test_rows_are_compared_with_the_fastest_dense() -> None:
    ours: dict[str, Any] = {"exactness": SPARSE, "ours": True, "scores_int8": True, "stages_ms": {"estimate": 2.0}}
    exact: dict[str, Any] = {"exactness": STORED, "ours": True}
    found = [row("torch", 100, 8.0), row("dense", 100, 6.0, **exact), row("shadow", 100, 4.0, **ours)]
    found += [row("torch", 200, 32.0), row("shadow", 200, 8.0, **ours)]
    attention_rows.compare(found, Peaks(100.0, None, {}), 64)
    assert [r["x_fastest_dense"] for r in found] == [0.75, 1.0, 1.5, 1.0, 4.0]
    assert [r["x_fastest_of_others"] for r in found] == [1.0, 8 / 6, 2.0, 1.0, 4.0]
    assert found[2]["fastest_dense"] == "dense"
    assert [r["exponent"] for r in found] == [None, None, None, 2.0, 1.0]
    assert found[0]["share_float32_peak"] == 0.1
    assert found[0]["share_int8_peak"] is None
    assert found[2]["estimate_gops"] == pytest.approx(2 * 64 * 100**2 / 2 / 2e-3 / 1e9)


def test_the_higher_peak_counts() -> None:
    assert higher(Peaks(1.0, None, {"a": "b"}), Peaks(2.0, None, {})) == Peaks(2.0, None, {"a": "b"})


def test_slopes() -> None:
    assert speed_plots.slope([(512, 9.0), (2048, 4.0), (4096, 16.0), (8192, 64.0)]) == pytest.approx(2.0)
    assert speed_plots.slope([(64, 1.0), (128, 2.0)]) == pytest.approx(1.0)
    assert speed_plots.slope([(64, 1.0)]) is None


def cpu(number: int, core: int | None) -> machine.Cpu:
    return machine.Cpu(number, core, 0, "", ())


def test_physical_cores_come_first() -> None:
    siblings = [cpu(0, 0), cpu(1, 0), cpu(2, 1), cpu(3, 1)]
    assert machine.cores_for(2, siblings) == [0, 2]
    assert machine.cores_for(3, siblings) == [0, 2, 1]
    assert machine.cores_for(2, [cpu(0, None), cpu(1, None)]) == [0, 1]
    with pytest.raises(ValueError, match="wanted at most the 4 CPUs of this process, got 5"):
        machine.cores_for(5, siblings)


def test_the_machine_is_described(tmp_path: Path) -> None:
    cpus = machine.topology()
    facts = machine.describe(cpus)
    assert len(facts["cpus"]) == len(cpus)
    assert facts["processor"] in machine.in_words(facts)
    assert all(cpu.core is None for cpu in machine.topology(tmp_path))  # a kernel that tells nothing


def test_amx_is_refused_to_a_process_and_its_children() -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip(f"AMX can be refused on Linux on x86-64 only, this is {sys.platform} {platform.machine()}")
    ask = """
import isa_limit
from shadowattn.runtime.litert.delegate import ShadowLibrary, library_path
print(isa_limit.may_use_amx(), ShadowLibrary(library_path()).best_isa)
"""
    code = f"""
import os, subprocess, sys, threading
import isa_limit
print(isa_limit.restrict(1, "avx512vnni", [min(os.sched_getaffinity(0))]))
print(isa_limit.may_use_amx(), os.environ["ONEDNN_MAX_CPU_ISA"], os.environ["OMP_NUM_THREADS"], flush=True)
subprocess.run([sys.executable, "-c", {ask!r}], check=True)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(environment()), timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    said, own, child = done.stdout.splitlines()
    assert "AMX refused to every library" in said
    assert own == "False AVX512_CORE_BF16 1"
    permitted, level = child.split()
    assert permitted == "False"
    assert level != "avx512amx"


def test_levels_are_refused_where_they_cannot_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isa_limit.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(isa_limit.os, "sched_setaffinity", lambda pid, cores: None)
    for name in isa_limit._THREAD_VARIABLES:  # restored afterwards
        monkeypatch.setenv(name, "1")
    assert isa_limit.restrict(1, "auto", [0]) == "the machine as it is"
    with pytest.raises(ValueError, match="on Linux on x86-64 only; use --isa=auto"):
        isa_limit.restrict(1, "avx512vnni", [0])


@pytest.mark.parametrize(
    ("flags", "isa"),
    [
        ({"avx2", "avx512f", "avx512_vnni", "amx_int8"}, "avx512vnni"),
        ({"avx2", "avx512f"}, "avx512"),
        ({"avx2"}, "avx2"),
        ({"asimd"}, "auto"),
    ],
)
def test_the_usual_level_is_the_widest_but_amx(flags: set[str], isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isa_limit, "cpu_flags", lambda: flags)
    assert isa_limit.usual_isa() == isa


def test_a_mode_has_one_color_everywhere() -> None:
    assert colors.color_of("ours, shadow auto") == colors.color_of("shadowattn, default") == "#1f4fb4"
    assert colors.color_of("ours, dense") == colors.color_of("shadowattn, dense") == colors.color_of("dense")
    assert colors.color_of("shadow 0.05") != colors.color_of("shadow auto")
    assert len(set(colors._COLORS.values())) == len(colors._COLORS) - 2  # the default has three names
    with pytest.raises(ValueError, match="got 'mystery'"):
        colors.color_of("mystery")


def test_scales_are_powers_of_ten() -> None:
    assert speed_plots.decades([0.3, 8.5]) == (0.1, 10.0)
    assert speed_plots.decades([1.0, 51.5]) == (1.0, 100.0)
