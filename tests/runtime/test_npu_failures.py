"""Delegates that fail: at loading, creation, preparation, invocation; and the order of closing after each."""

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from claiming import ClaimingLibrary
from estimate_files import KEY, MODEL, MULTIPLIER, TINY_KEY, estimate_file, oracle, random_inputs, write_archive

from shadowattn.runtime.npu.choice import NpuChoice
from shadowattn.runtime.npu.graphs import Estimator


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("estimates")
    write_archive(path, {key.name: estimate_file(key) for key in (KEY, TINY_KEY)})
    return path


@pytest.fixture(autouse=True)
def closing_order(claiming: ClaimingLibrary):  # type: ignore[no-untyped-def]
    """After every test: no delegate is left, and none went before its nodes."""
    gc.collect()
    alive, early = claiming.alive, claiming.closed_early
    yield
    gc.collect()
    assert claiming.alive == alive
    assert claiming.closed_early == early


def estimator(bundle: Path, npu: str) -> Estimator:
    return Estimator(NpuChoice.parse(npu), bundle, MODEL, {0: MULTIPLIER})


def test_a_library_that_is_missing(bundle: Path) -> None:
    with pytest.raises(ValueError, match=r"/gone/lib\.so: there is no such file; give --npu=delegate:PATH"):
        estimator(bundle, "delegate:/gone/lib.so")
    with pytest.raises(ValueError, match="there is no such file"):
        estimator(bundle, "delegate:/" + "x" * 5000)
    with pytest.raises(ValueError, match=r"libnowhere_at_all\.so: cannot be loaded \(.*\); wanted a library"):
        estimator(bundle, "delegate:libnowhere_at_all.so")


def test_files_that_are_no_delegates(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("not ELF")
    with pytest.raises(ValueError, match=r"text\.so: cannot be loaded \(.*\); wanted a library built for this machine"):
        estimator(bundle, f"delegate:{tmp_path / 'text.so'}")
    with pytest.raises(ValueError, match=r"cannot be loaded"):
        estimator(bundle, f"delegate:{tmp_path}")
    other = next(Path("/").glob("lib/*-linux-gnu/libm.so.6"))
    with pytest.raises(ValueError, match="is not an external delegate, it lacks tflite_plugin_create_delegate"):
        estimator(bundle, f"delegate:{other}")


def test_a_name_in_the_working_folder(bundle: Path, claiming: ClaimingLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(claiming.path.parent)
    graphs = estimator(bundle, f"delegate:{claiming.path.name}")
    graphs.runner(KEY).invoke()
    graphs.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("fail=create", "claiming delegate: creation fails, as asked"),
        ("speed=high", "wanted claim=all.none.odd, .*, got speed=high"),
        ("claim=some", "got claim=some"),
        ("fail=invoke:0", "got fail=invoke:0"),
        ("delay_ms=1s", "got delay_ms=1s"),
        ("flags=2", "got flags=2"),
    ],
)
def test_creation_fails(bundle: Path, claiming: ClaimingLibrary, options: str, message: str) -> None:
    """The test delegate's destructor would follow the NULL that LiteRT passes it then."""
    with pytest.raises(ValueError, match=f"libclaiming_delegate.so: delegate refused its options: .*{message}"):
        estimator(bundle, claiming.npu(options))


def test_missing_graphs_after_the_delegate_was_made(tmp_path: Path, claiming: ClaimingLibrary) -> None:
    with pytest.raises(ValueError, match=r"estimates\.zip: there is no such file"):
        estimator(tmp_path, claiming.npu())


@pytest.mark.parametrize("flags", [0, 1])
def test_preparation_fails(bundle: Path, claiming: ClaimingLibrary, flags: int) -> None:
    graphs = estimator(bundle, claiming.npu(f"fail=prepare&flags={flags}"))
    message = rf"^{KEY.name}: .*claiming delegate: prepare fails, as asked"
    for _ in range(2):
        with pytest.raises(RuntimeError, match=message) as caught:
            graphs.runner(KEY)
        assert "delegate libclaiming_delegate.so" in str(caught.value)
    assert graphs.counts.runners == 0
    graphs.close()


def test_the_hundredth_invoke_fails_and_the_next_works(bundle: Path, claiming: ClaimingLibrary) -> None:
    graphs = estimator(bundle, claiming.npu("fail=invoke:100"))
    runner = graphs.runner(KEY)
    runner.q_i8[...], runner.k_i8[...] = random_inputs(KEY, np.random.default_rng(5))
    for _ in range(99):
        runner.invoke()
    with pytest.raises(RuntimeError, match=rf"^{KEY.name}: claiming delegate: invoke 100 fails, as asked$"):
        runner.invoke()
    runner.scores_i8[...] = 0
    runner.invoke()
    assert np.array_equal(runner.scores_i8, oracle(runner.q_i8, runner.k_i8))
    assert graphs.counts[2:] == (101, 1)
    graphs.close()


def test_closing_after_a_failed_invoke(bundle: Path, claiming: ClaimingLibrary) -> None:
    graphs = estimator(bundle, claiming.npu("fail=invoke:1"))
    first, second = graphs.runner(KEY, 0), graphs.runner(KEY, 1)
    with pytest.raises(RuntimeError, match="invoke 1 fails"):
        first.invoke()
    second.q_i8[...], second.k_i8[...] = q_i8, k_i8 = random_inputs(KEY, np.random.default_rng(1))
    second.invoke()
    view = second.scores_i8
    graphs.close()
    assert claiming.alive > 0  # the view keeps its interpreter, and that the delegate
    assert np.array_equal(view, oracle(q_i8, k_i8))


def test_an_estimator_that_was_forgotten(bundle: Path, claiming: ClaimingLibrary) -> None:
    before = claiming.alive
    graphs = estimator(bundle, claiming.npu())
    runner = graphs.runner(KEY)
    assert claiming.alive == before + 1
    del graphs
    gc.collect()
    assert claiming.alive == before
    with pytest.raises(RuntimeError, match="this runner is closed"):
        runner.invoke()


_SCRIPT = """
import os, sys
sys.path.insert(0, {tests!r})
from estimate_files import KEY, MODEL, MULTIPLIER
from pathlib import Path
from shadowattn.runtime.npu.choice import NpuChoice
from shadowattn.runtime.npu.graphs import Estimator
graphs = Estimator(NpuChoice.parse({npu!r}), Path({bundle!r}), MODEL, {{0: MULTIPLIER}})
runner = graphs.runner(KEY)
view = runner.scores_i8
runner.invoke()
{rest}
"""

_FORK = """
child = os.fork()
if child == 0:
    graphs.abandon()
    del graphs, runner, view
    raise SystemExit(0)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "del graphs",
        "sys.modules['kept'] = runner, view, graphs",
        "graphs.close()",
        "raise SystemExit(0)",
        _FORK,
    ],
)
def test_leaving_the_interpreter(bundle: Path, claiming: ClaimingLibrary, rest: str) -> None:
    """However a process ends: no crash, and the delegate (which would say so) does not go before its nodes."""
    tests = str(Path(__file__).parent)
    script = _SCRIPT.format(tests=tests, npu=claiming.npu(), bundle=str(bundle), rest=rest)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "destroyed before" not in done.stderr
    assert "Exception ignored" not in done.stderr
