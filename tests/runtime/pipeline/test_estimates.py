"""Runners of estimate graphs: results, memory, threads, what was delegated, and files and delegates that fail."""

import dataclasses
import gc
import subprocess
import sys
import threading
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from claiming import ClaimingLibrary
from estimate_files import (
    KEY,
    MODEL,
    MULTIPLIER,
    ODD_KEYS,
    SCALE_K,
    TINY_KEY,
    custom_file,
    estimate_file,
    oracle,
    random_inputs,
    two_node_file,
    write_archive,
)

from shadowattn.models.estimate_graphs import FILE_NAME, EstimateKey
from shadowattn.runtime.litert.nodes import BATCH_MATMUL, Node
from shadowattn.runtime.pipeline.estimates import EstimateRunner, Estimator, check_delegated
from shadowattn.runtime.pipeline.options import NpuChoice

HOST = NpuChoice()
FLAGS = ["flags=0", "flags=1"]  # of TFLite: with 0, a delegate that allows no dynamic tensors


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("estimates")
    write_archive(path, {key.name: estimate_file(key) for key in ODD_KEYS} | {"readme": b"of no interest"})
    return path


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """KEY is two nodes, TINY_KEY one."""
    path = tmp_path_factory.mktemp("two_nodes")
    write_archive(path, {KEY.name: two_node_file(KEY), TINY_KEY.name: estimate_file(TINY_KEY)})
    return path


@pytest.fixture(autouse=True)
def closing_order(claiming: ClaimingLibrary) -> Iterator[None]:
    """After every test, which forgets or closes its estimators: no delegate is left, none went before its nodes."""
    gc.collect()
    alive, early = claiming.alive, claiming.closed_early
    yield
    gc.collect()
    assert (claiming.alive, claiming.closed_early) == (alive, early)


def estimator(bundle: Path, npu: str | NpuChoice = HOST, require_npu: bool = False) -> Estimator:
    choice = NpuChoice.parse(npu, require_npu) if isinstance(npu, str) else npu
    return Estimator(choice, bundle, MODEL, {0: MULTIPLIER})


def check(runner: EstimateRunner, seed: int | None = None) -> None:
    seed = int(np.random.default_rng().integers(2**31)) if seed is None else seed
    print(f"seed {seed}")
    q_i8, k_i8 = random_inputs(runner.key, np.random.default_rng(seed))
    runner.q_i8[...], runner.k_i8[...] = q_i8, k_i8
    runner.invoke()
    assert np.array_equal(runner.scores_i8, oracle(q_i8, k_i8))
    assert np.array_equal(runner.q_i8, q_i8)
    assert np.array_equal(runner.k_i8, k_i8)


# --- results and memory ---


@pytest.mark.parametrize("key", ODD_KEYS, ids=lambda key: key.name)
@pytest.mark.parametrize("npu", ["host", *FLAGS])
def test_results_are_the_oracles(bundle: Path, claiming: ClaimingLibrary, key: EstimateKey, npu: str) -> None:
    """XNNPACK and the test delegate round identically, so both are exact."""
    graphs = estimator(bundle, npu if npu == "host" else claiming.npu(npu), require_npu=npu != "host")
    for _ in range(3):
        check(graphs.runner(key))


def test_views_stay_where_they_are_and_two_slots_share_no_memory(bundle: Path, claiming: ClaimingLibrary) -> None:
    for choice in ("host", claiming.npu()):
        graphs = estimator(bundle, choice)
        assert graphs.keys == sorted(ODD_KEYS)
        first, second = graphs.runner(KEY, 0), graphs.runner(KEY, 1)
        views = [runner.__dict__[name] for runner in (first, second) for name in ("q_i8", "k_i8", "scores_i8")]
        assert not any(np.shares_memory(a, b) for i, a in enumerate(views) for b in views[:i])
        check(first)
        kept = first.scores_i8.copy()
        check(second)
        for key in ODD_KEYS:
            graphs.runner(key).invoke()
        assert graphs.runner(KEY, 0) is first
        assert np.array_equal(views[2], oracle(first.q_i8, first.k_i8))
        assert np.array_equal(views[2], kept)
        assert all(view.flags.c_contiguous for view in views)
        rows = {row["graph"]: row for row in graphs.report()}
        assert (rows[KEY.name]["slots"], rows[KEY.name]["invokes"], rows[KEY.name]["failures"]) == (2, 3, 0)


def test_python_runs_while_another_thread_invokes(bundle: Path, claiming: ClaimingLibrary) -> None:
    graphs = estimator(bundle, claiming.npu())
    runner = graphs.runner(KEY)
    runner.q_i8[...], runner.k_i8[...] = 1, 100
    worker = threading.Thread(target=runner.invoke)
    with claiming.held_invokes() as one_is_held:
        worker.start()
        assert one_is_held()  # were Python's lock held by the invoke, this could not return before the invoke fails
        assert worker.is_alive()
    worker.join()
    assert np.array_equal(runner.scores_i8, oracle(runner.q_i8, runner.k_i8))


def test_after_close(bundle: Path) -> None:
    graphs = estimator(bundle)
    runner = graphs.runner(KEY)
    check(runner)
    kept, wanted = runner.scores_i8, runner.scores_i8.copy()
    graphs.close()
    graphs.close()
    assert np.array_equal(kept, wanted)  # whoever holds a view holds the memory
    with pytest.raises(RuntimeError, match="estimate_5_32_3_0: this runner is closed"):
        runner.invoke()
    with pytest.raises(RuntimeError, match="this Estimator is closed"):
        graphs.runner(KEY)


# --- what was delegated ---


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize(
    ("claim", "extent", "runners", "left"),
    [
        ("all", "taken", ["delegate", "delegate"], ""),
        ("odd", "partly", ["xnnpack", "delegate"], "node 0 BATCH_MATMUL (xnnpack)"),
        ("none", "not at all", ["xnnpack"] * 2, "node 0 BATCH_MATMUL (xnnpack), node 1 BATCH_MATMUL (xnnpack)"),
    ],
)
def test_what_the_delegate_takes(
    two_nodes: Path, claiming: ClaimingLibrary, flags: str, claim: str, extent: str, runners: list[str], left: str
) -> None:
    """Warned of once per graph, whatever the slot; an error where the NPU is required."""
    npu = claiming.npu(f"claim={claim}&{flags}")
    graphs = estimator(two_nodes, npu)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check(graphs.runner(KEY))
        check(graphs.runner(KEY, 1))
    runs = f"{left} {'run' if left.count('node') > 1 else 'runs'} on the CPU as host INT8"
    wanted = f"{KEY.name}: delegate libclaiming_delegate.so: {extent}: {runs}"
    assert [str(warning.message) for warning in caught] == ([wanted] if left else [])
    assert [node.runner for node in graphs.runner(KEY).nodes] == runners
    assert graphs.nodes() == {KEY.name: graphs.runner(KEY).nodes}
    (row,) = graphs.report()
    assert list(row.values())[:5] == [KEY.name, 2, 2, extent, left]
    required = estimator(two_nodes, npu, require_npu=True)
    for _ in range(2):
        if left:
            with pytest.raises(RuntimeError, match=r"on the CPU as host INT8, which require_npu forbids"):
                required.runner(KEY)
        else:
            check(required.runner(KEY))
    assert len(required.report()) == (not left)


def test_blobs(bundle: Path, tmp_path: Path, claiming: ClaimingLibrary) -> None:
    """They are taken from the given zip; without a delegate they run on the host, or need one."""
    npu = f"blobs:{bundle / FILE_NAME}"
    with pytest.warns(RuntimeWarning, match=r"blobs estimates.zip through no delegate: not at all: .* as host INT8"):
        check((graphs := estimator(tmp_path, npu)).runner(KEY))
    with pytest.raises(RuntimeError, match="which require_npu forbids"):
        estimator(tmp_path, npu, require_npu=True).runner(KEY)
    graphs = estimator(tmp_path, f"{npu}+{claiming.npu()}", require_npu=True)
    check(graphs.runner(KEY))
    own = write_archive(tmp_path, {KEY.name: custom_file(KEY)}, "blobs.zip")
    message = rf"{KEY.name}: .*unresolved custom op: DISPATCH_OP.*\(with blobs .* no delegate\); give the delegate"
    with pytest.raises(RuntimeError, match=message):
        estimator(tmp_path, f"blobs:{own}").runner(KEY)
    with pytest.raises(ValueError, match=r"b\.zip: there is no such file, .*; compile the bundle's"):
        estimator(bundle, f"blobs:{tmp_path / 'b.zip'}")


def test_a_graph_of_the_host_that_xnnpack_left() -> None:
    message = r"^g: 1 matrix products \(first: node 0\) are run by litert builtin, not by XNNPACK"
    with pytest.warns(RuntimeWarning, match=message):
        check_delegated("g", (Node(0, BATCH_MATMUL, "", "litert builtin"),), HOST)


# --- files ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file, so there are no estimate graphs"),
        *((content, r"not a readable zip \(.*\)") for content in (b"", b"no zip at all", b"PK\3\4" + bytes(50))),
        ({"estimate_1_2": b"", "x": b""}, r"holds no estimate_<T>_<S>_<heads>_<bucket>\.tflite"),
    ],
)
def test_files_without_graphs(
    tmp_path: Path, claiming: ClaimingLibrary, content: bytes | dict[str, bytes] | None, message: str
) -> None:
    if isinstance(content, bytes):
        (tmp_path / FILE_NAME).write_bytes(content)
    elif content is not None:
        write_archive(tmp_path, content)
    for npu in ("host", claiming.npu()):
        with pytest.raises(ValueError, match=rf"estimates\.zip: {message}; convert the model again"):
            estimator(tmp_path, npu)


def test_every_changed_byte_is_noticed_or_harmless(tmp_path: Path) -> None:
    """Damage anywhere in the zip: a ValueError, or the right scores; never a crash."""
    seed = np.random.SeedSequence().entropy
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    whole = write_archive(tmp_path, {TINY_KEY.name: estimate_file(TINY_KEY)}).read_bytes()
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= rng.integers(1, 256)
        (tmp_path / FILE_NAME).write_bytes(damaged)
        try:
            graphs = estimator(tmp_path)
            runner = graphs.runner(TINY_KEY)
        except ValueError as error:
            assert "convert the model again" in str(error)  # noqa: PT017
            refused += 1
            continue
        check(runner)
        graphs.close()
    assert refused > 75


def test_graphs_that_are_not_there(bundle: Path) -> None:
    graphs = estimator(bundle)
    there = "its graphs are of chunk 1, 3, 5, seq_len 7, 32, 33, 61, heads 1, 2, 3, 6, bucket 0; convert"
    for key, wanted in {
        EstimateKey(9, 32, 3): f"lacks estimate_9_32_3_0; {there}",
        EstimateKey(5, 32, 3, 4): "estimate_5_32_3_4: no scales are known for bucket 4, only for 0",
        EstimateKey(5, 32, 4): "4 heads are neither",
    }.items():
        with pytest.raises(ValueError, match=wanted):
            graphs.runner(key)
    check(graphs.runner(KEY))  # goes on


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"LiteRT cannot open it \(.+\)"),
        (estimate_file(KEY)[:300], r"LiteRT cannot open it \(.+\)"),
        (estimate_file(TINY_KEY), r"wanted one signature of that name, got \['estimate_1_7_1_0'\]"),
        (
            estimate_file(KEY, dataclasses.replace(MODEL, head_dim=16)),
            r"q_i8 must be int8 \[1, 15, 12\], got int8",
        ),
        (estimate_file(KEY, k=SCALE_K * 1.001), r"its scales multiply by 0\.00824\d+, the plan says"),
        (estimate_file(KEY, scores=0.0), "scores_i8 must have one positive scale and zero point 0, got"),
        (estimate_file(KEY, q_name="q"), "wanted the inputs q_i8, k_i8, got k_i8, q"),
        (estimate_file(KEY), "is compressed, wanted it stored"),
        (estimate_file(KEY, dtype="float32"), r"q_i8 must be int8 .*, got float32"),
    ],
)
def test_another_graph(tmp_path: Path, content: bytes, message: str) -> None:
    path = write_archive(tmp_path, {KEY.name: content})
    if "compressed" in message:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{KEY.name}.tflite", content)
    with pytest.raises(ValueError, match=rf"{KEY.name}.* {message}.*; convert the model again"):
        estimator(tmp_path).runner(KEY)


# --- delegates that fail ---


def test_delegates_that_cannot_be_created(bundle: Path, tmp_path: Path, claiming: ClaimingLibrary) -> None:
    (tmp_path / "text.so").write_text("not ELF")
    other = next(Path("/").glob("lib/*-linux-gnu/libm.so.6"))
    for path, message in {
        "/gone/lib.so": r"/gone/lib\.so: there is no such file; give --npu=delegate:PATH",
        "/" + "x" * 5000: "there is no such file",
        "libnowhere_at_all.so": r"libnowhere_at_all\.so: cannot be loaded \(.*\); wanted a library",
        f"{tmp_path / 'text.so'}": r"text\.so: cannot be loaded \(.*\); wanted a library built for this machine",
        f"{tmp_path}": "cannot be loaded",
        f"{other}": "is not an external delegate, it lacks tflite_plugin_create_delegate",
        # The test delegate's destructor would follow the NULL that LiteRT passes it then.
        f"{claiming.path}?fail=create": r"libclaiming_delegate\.so: delegate refused its options: .*creation fails, as",
        f"{claiming.path}?speed=high": r"libclaiming_delegate\.so: delegate refused its options: .*got speed=high",
    }.items():
        with pytest.raises(ValueError, match=message):
            estimator(bundle, f"delegate:{path}")


def test_a_name_in_the_working_folder(bundle: Path, claiming: ClaimingLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(claiming.path.parent)
    graphs = estimator(bundle, f"delegate:{claiming.path.name}")
    check(graphs.runner(KEY))


def test_the_hundredth_invoke_fails_and_the_next_works(bundle: Path, claiming: ClaimingLibrary) -> None:
    graphs = estimator(bundle, claiming.npu("fail=invoke:100"))
    runner, other = graphs.runner(KEY), graphs.runner(KEY, 1)
    for _ in range(99):
        runner.invoke()
    with pytest.raises(RuntimeError, match=rf"^{KEY.name}: claiming delegate: invoke 100 fails, as asked$"):
        runner.invoke()
    check(runner)
    check(other, seed=1)
    assert [(row["invokes"], row["failures"]) for row in graphs.report()] == [(102, 1)]
    view = other.scores_i8
    graphs.close()
    assert claiming.alive > 0  # the view keeps its interpreter, and that the delegate
    assert np.array_equal(view, oracle(*random_inputs(KEY, np.random.default_rng(1))))


_SCRIPT = """
import os, sys
sys.path.insert(0, {tests!r})
from estimate_files import KEY, MODEL, MULTIPLIER
from pathlib import Path
from shadowattn.runtime.pipeline.estimates import Estimator
from shadowattn.runtime.pipeline.options import NpuChoice
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
    ["", "del graphs", "sys.modules['kept'] = runner, view, graphs", "graphs.close()", "raise SystemExit(0)", _FORK],
)
def test_leaving_the_interpreter(bundle: Path, claiming: ClaimingLibrary, rest: str) -> None:
    """However a process ends: no crash, and the delegate (which would say so) does not go before its nodes."""
    tests = str(Path(__file__).parents[1])
    script = _SCRIPT.format(tests=tests, npu=claiming.npu(), bundle=str(bundle), rest=rest)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "destroyed before" not in done.stderr
    assert "Exception ignored" not in done.stderr
