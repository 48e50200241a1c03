"""Runners of estimate graphs: results, memory, threads, and files that are refused."""

import dataclasses
import threading
import time
import zipfile
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
    write_archive,
)
from flat_graph import FlatModel

from shadowattn.models.estimate_graphs import FILE_NAME, EstimateKey
from shadowattn.runtime.npu.choice import NpuChoice
from shadowattn.runtime.npu.graphs import Estimator

HOST = NpuChoice.parse("host")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("estimates")
    write_archive(path, {key.name: estimate_file(key) for key in ODD_KEYS} | {"readme": b"of no interest"})
    return path


def estimator(bundle: Path, choice: NpuChoice = HOST, num_threads: int = 1) -> Estimator:
    return Estimator(choice, bundle, MODEL, {0: MULTIPLIER}, num_threads)


@pytest.mark.parametrize("key", ODD_KEYS, ids=lambda key: key.name)
@pytest.mark.parametrize("npu", ["host", "flags=0", "flags=1"])
def test_results_are_the_oracles(bundle: Path, claiming: ClaimingLibrary, key: EstimateKey, npu: str) -> None:
    """XNNPACK and the test delegate round alike, so both are exact."""
    seed = np.random.SeedSequence().entropy
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    choice = HOST if npu == "host" else NpuChoice.parse(claiming.npu(npu), require_npu=True)
    graphs = estimator(bundle, choice)
    runner = graphs.runner(key)
    for _ in range(3):
        q_i8, k_i8 = random_inputs(key, rng)
        runner.q_i8[...], runner.k_i8[...] = q_i8, k_i8
        runner.invoke()
        assert np.array_equal(runner.scores_i8, oracle(q_i8, k_i8))
        assert np.array_equal(runner.q_i8, q_i8)
        assert np.array_equal(runner.k_i8, k_i8)
    graphs.close()


def test_runners_and_views_stay_where_they_are(bundle: Path) -> None:
    graphs = estimator(bundle)
    runner = graphs.runner(KEY)
    addresses = [runner.q_i8.ctypes.data, runner.k_i8.ctypes.data, runner.scores_i8.ctypes.data]
    for key in ODD_KEYS:
        graphs.runner(key).invoke()
    assert graphs.runner(KEY, 0) is runner
    assert addresses == [runner.q_i8.ctypes.data, runner.k_i8.ctypes.data, runner.scores_i8.ctypes.data]
    assert runner.scores_i8.flags.c_contiguous
    graphs.close()


def test_two_slots_share_no_memory(bundle: Path, claiming: ClaimingLibrary) -> None:
    for choice in (HOST, NpuChoice.parse(claiming.npu())):
        graphs = estimator(bundle, choice)
        first, second = graphs.runner(KEY, 0), graphs.runner(KEY, 1)
        names = ("q_i8", "k_i8", "scores_i8")
        views = [getattr(runner, name) for runner in (first, second) for name in names]
        assert not any(np.shares_memory(a, b) for i, a in enumerate(views) for b in views[:i])
        first.q_i8[...], first.k_i8[...] = 100, 100
        first.invoke()
        kept = first.scores_i8.copy()
        second.q_i8[...], second.k_i8[...] = -100, 100
        second.invoke()
        assert np.array_equal(first.scores_i8, kept)
        assert (second.scores_i8 == -128).all()
        assert (kept == 127).all()
        graphs.close()


def test_python_runs_while_another_thread_invokes(bundle: Path, claiming: ClaimingLibrary) -> None:
    graphs = estimator(bundle, NpuChoice.parse(claiming.npu("delay_ms=300")))
    runner = graphs.runner(KEY)
    runner.q_i8[...], runner.k_i8[...] = 1, 100
    worker = threading.Thread(target=runner.invoke)
    start = time.perf_counter()
    worker.start()
    turns = 0
    while worker.is_alive():
        turns += 1
        time.sleep(0.001)
    assert time.perf_counter() - start >= 0.3
    assert turns > 20
    assert np.array_equal(runner.scores_i8, oracle(runner.q_i8, runner.k_i8))
    graphs.close()


def test_counts(bundle: Path) -> None:
    graphs = estimator(bundle)
    assert graphs.keys == sorted(ODD_KEYS)
    assert graphs.counts == (0, 0, 0, 0)
    for slot in (0, 1):
        graphs.runner(KEY, slot).invoke()
    graphs.runner(TINY_KEY)
    assert graphs.counts == (2, 3, 2, 0)
    assert graphs.prepare_seconds > 0
    graphs.close()


def test_after_close(bundle: Path) -> None:
    graphs = estimator(bundle)
    runner = graphs.runner(KEY)
    runner.q_i8[...], runner.k_i8[...] = 3, 5
    runner.invoke()
    kept = runner.scores_i8
    wanted = kept.copy()
    graphs.close()
    graphs.close()
    assert np.array_equal(kept, wanted)  # whoever holds a view holds the memory
    with pytest.raises(RuntimeError, match="estimate_5_32_3_0: this runner is closed"):
        runner.invoke()
    with pytest.raises(RuntimeError, match="this runner is closed"):
        _ = runner.scores_i8
    with pytest.raises(RuntimeError, match="this Estimator is closed"):
        graphs.runner(KEY)
    assert graphs.counts.invokes == 1


def test_a_bundle_without_estimates(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"estimates\.zip: there is no such file, .*; convert the model again"):
        estimator(tmp_path)
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(ValueError, match=r"estimates\.zip: Is a directory; convert the model again"):
        estimator(tmp_path)


def test_blobs_that_are_missing(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"b\.zip: there is no such file, .*; compile the graphs .* again"):
        estimator(bundle, NpuChoice.parse(f"blobs:{tmp_path / 'b.zip'}"))


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\3\4" + bytes(50)])
def test_a_file_that_is_no_zip(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(ValueError, match=r"is no readable zip \(.*\); convert the model again"):
        estimator(tmp_path)


def test_a_zip_without_graphs(tmp_path: Path) -> None:
    write_archive(tmp_path, {"estimate_1_2": b"", "x": b""})
    with pytest.raises(ValueError, match=r"holds no estimate_<T>_<S>_<heads>_<bucket>\.tflite; convert"):
        estimator(tmp_path)


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
        runner.q_i8[...], runner.k_i8[...] = random_inputs(TINY_KEY, rng)
        runner.invoke()
        assert np.array_equal(runner.scores_i8, oracle(runner.q_i8, runner.k_i8))
        graphs.close()
    assert refused > 75


def test_a_truncated_model_in_a_sound_zip(tmp_path: Path) -> None:
    write_archive(tmp_path, {KEY.name: estimate_file(KEY)[:300], TINY_KEY.name: b""})
    graphs = estimator(tmp_path)
    for key in (KEY, TINY_KEY):
        with pytest.raises(ValueError, match=rf"{key.name}: LiteRT cannot open it \(.+\); convert the model again"):
            graphs.runner(key)
    graphs.close()


def test_compressed_graphs(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / FILE_NAME, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{KEY.name}.tflite", estimate_file(KEY))
    graphs = estimator(tmp_path)
    with pytest.raises(ValueError, match=r"is compressed, wanted it stored; convert the model again"):
        graphs.runner(KEY)


def test_a_grid_that_lacks_a_length(bundle: Path) -> None:
    graphs = estimator(bundle)
    message = r"lacks estimate_5_64_3_0: a grid that lacks length 64, it has 32; convert the model again"
    with pytest.raises(ValueError, match=message):
        graphs.runner(EstimateKey(5, 64, 3))
    message = "lacks estimate_9_32_3_0; its graphs are of chunk 1, 3, 5, seq_len 7, 32, 33, 61, heads 1, 2, 3, 6"
    with pytest.raises(ValueError, match=message):
        graphs.runner(EstimateKey(9, 32, 3))
    graphs.runner(KEY).invoke()  # goes on
    graphs.close()


def test_a_bucket_without_scales(bundle: Path) -> None:
    with pytest.raises(ValueError, match="estimate_5_32_3_4: no scales are known for bucket 4, only for 0"):
        estimator(bundle).runner(EstimateKey(5, 32, 3, 4))


def test_heads_that_form_no_group(bundle: Path) -> None:
    with pytest.raises(ValueError, match="4 heads are neither"):
        estimator(bundle).runner(EstimateKey(5, 32, 4))


@pytest.mark.parametrize("num_threads", [0, -1])
def test_threads_below_one(bundle: Path, num_threads: int) -> None:
    with pytest.raises(ValueError, match="num_threads must be at least 1"):
        estimator(bundle, num_threads=num_threads)


def refused(folder: Path, content: bytes, message: str) -> None:
    write_archive(folder, {KEY.name: content})
    graphs = estimator(folder)
    with pytest.raises(ValueError, match=rf"{KEY.name}: {message}.*; convert the model again"):
        graphs.runner(KEY)


def test_the_graph_of_another_name(tmp_path: Path) -> None:
    refused(tmp_path, estimate_file(TINY_KEY), r"wanted one signature of that name, got \['estimate_1_7_1_0'\]")


def test_the_graph_of_another_model(tmp_path: Path) -> None:
    other = dataclasses.replace(MODEL, head_dim=16)
    refused(tmp_path, estimate_file(KEY, other), r"k_i8 must be int8 \[1, 32, 12\], got int8 \[1, 32, 16\]")


def test_other_scales(tmp_path: Path) -> None:
    refused(tmp_path, estimate_file(KEY, k=SCALE_K * 1.001), r"its scales multiply by 0\.00824\d+, the plan says")
    refused(tmp_path, estimate_file(KEY, scores=0.0), r"scores_i8 must have one positive scale and zero point 0, got")


def test_other_tensors(tmp_path: Path) -> None:
    def file(name: str, dtype: str) -> bytes:
        flat = FlatModel()
        graph = flat.graph(KEY.name)
        q_shape, k_shape, shape = KEY.shapes(MODEL)
        q, k = graph.input(name, q_shape, dtype, 0.1), graph.input("k_i8", k_shape, dtype, 0.1)
        graph.finish({"scores_i8": graph.op("BATCH_MATMUL", [q, k], shape, dtype, adjY=True, scale=0.1)})
        return flat.to_bytes()

    refused(tmp_path, file("q", "int8"), "wanted the inputs q_i8, k_i8, got k_i8, q")
    refused(tmp_path, file("q_i8", "float32"), r"\w+ must be int8 .*, got float32")


def test_blobs_that_need_a_delegate(tmp_path: Path) -> None:
    blobs = write_archive(tmp_path, {KEY.name: custom_file(KEY)}, "blobs.zip")
    graphs = estimator(tmp_path, NpuChoice.parse(f"blobs:{blobs}"))
    message = rf"{KEY.name}: .*unresolved custom op: DISPATCH_OP.*\(with blobs .* no delegate\); give the delegate"
    with pytest.raises(RuntimeError, match=message):
        graphs.runner(KEY)


def test_blobs_through_a_delegate(tmp_path: Path, claiming: ClaimingLibrary) -> None:
    """They are taken from the given zip; the bundle has none."""
    blobs = write_archive(tmp_path, {KEY.name: estimate_file(KEY)}, "blobs.zip")
    graphs = estimator(tmp_path / "bundle", NpuChoice.parse(f"blobs:{blobs}+{claiming.npu()}", require_npu=True))
    assert graphs.runner(KEY).delegation.extent.value == "taken"
    graphs.close()
