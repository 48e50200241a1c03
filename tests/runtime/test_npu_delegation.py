"""What was delegated, proved from the execution plan: taken, partly, not at all; warned of, reported, forbidden."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from claiming import ClaimingLibrary
from estimate_files import (
    KEY,
    MODEL,
    MULTIPLIER,
    TINY_KEY,
    estimate_file,
    oracle,
    random_inputs,
    two_node_file,
    write_archive,
)

from shadowattn.models.estimate_graphs import EstimateKey
from shadowattn.runtime.litert.nodes import BATCH_MATMUL, Node
from shadowattn.runtime.measure.table import format_table
from shadowattn.runtime.npu.choice import NpuChoice
from shadowattn.runtime.npu.delegation import Delegation, Extent, judge
from shadowattn.runtime.npu.graphs import EstimateRow, Estimator

FLAGS = ["flags=0", "flags=1"]  # of TFLite: with 0, a delegate that allows no dynamic tensors


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """KEY is two nodes, TINY_KEY one."""
    path = tmp_path_factory.mktemp("estimates")
    write_archive(path, {KEY.name: two_node_file(KEY), TINY_KEY.name: estimate_file(TINY_KEY)})
    return path


def estimator(bundle: Path, npu: str, require_npu: bool = False) -> Estimator:
    return Estimator(NpuChoice.parse(npu, require_npu), bundle, MODEL, {0: MULTIPLIER})


def check(graphs: Estimator, key: EstimateKey) -> None:
    runner = graphs.runner(key)
    runner.q_i8[...], runner.k_i8[...] = random_inputs(key, np.random.default_rng(11))
    runner.invoke()
    assert np.array_equal(runner.scores_i8, oracle(runner.q_i8, runner.k_i8))


def who(graphs: Estimator, key: EstimateKey) -> list[str]:
    return [node.runner for node in graphs.runner(key).delegation.nodes]


def test_host(bundle: Path) -> None:
    graphs = estimator(bundle, "host")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(graphs, KEY)
    assert who(graphs, KEY) == ["xnnpack", "xnnpack"]
    (row,) = graphs.report()
    assert row[:5] == (KEY.name, 1, 2, None, "node 0 BATCH_MATMUL (xnnpack), node 1 BATCH_MATMUL (xnnpack)")
    graphs.close()


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("require_npu", [False, True])
def test_taken(bundle: Path, claiming: ClaimingLibrary, flags: str, require_npu: bool) -> None:
    graphs = estimator(bundle, claiming.npu(flags), require_npu)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(graphs, KEY)
        check(graphs, TINY_KEY)
    assert who(graphs, KEY) == ["delegate", "delegate"]
    assert graphs.runner(KEY).delegation.extent is Extent.TAKEN
    assert [row[:5] for row in graphs.report()] == [(TINY_KEY.name, 1, 1, "taken", ""), (KEY.name, 1, 2, "taken", "")]
    graphs.close()


@pytest.mark.parametrize("flags", FLAGS)
def test_partly(bundle: Path, claiming: ClaimingLibrary, flags: str) -> None:
    graphs = estimator(bundle, claiming.npu(f"claim=odd&{flags}"))
    message = (
        rf"^{KEY.name}: delegate libclaiming_delegate\.so: partly: node 0 BATCH_MATMUL \(xnnpack\) runs on the CPU "
        "as host INT8$"
    )
    with pytest.warns(RuntimeWarning, match=message) as caught:
        check(graphs, KEY)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graphs.runner(KEY, 1)  # not again for the second slot
    assert who(graphs, KEY) == ["xnnpack", "delegate"]
    (row,) = graphs.report()
    assert row[:5] == (KEY.name, 2, 2, "partly", "node 0 BATCH_MATMUL (xnnpack)")
    graphs.close()


@pytest.mark.parametrize("flags", FLAGS)
def test_not_at_all(bundle: Path, claiming: ClaimingLibrary, flags: str) -> None:
    graphs = estimator(bundle, claiming.npu(f"claim=none&{flags}"))
    message = (
        r"not at all: node 0 BATCH_MATMUL \(xnnpack\), node 1 BATCH_MATMUL \(xnnpack\) run on the CPU as host INT8$"
    )
    with pytest.warns(RuntimeWarning, match=message):
        check(graphs, KEY)
    with pytest.warns(RuntimeWarning, match=rf"{TINY_KEY.name}: .*: not at all: node 0 BATCH_MATMUL \(xnnpack\) runs"):
        check(graphs, TINY_KEY)
    assert [row.delegated for row in graphs.report()] == ["not at all", "not at all"]
    graphs.close()


@pytest.mark.parametrize(("claim", "extent"), [("odd", "partly"), ("none", "not at all")])
def test_require_npu_forbids_the_host(bundle: Path, claiming: ClaimingLibrary, claim: str, extent: str) -> None:
    graphs = estimator(bundle, claiming.npu(f"claim={claim}"), require_npu=True)
    message = rf"{KEY.name}: .*: {extent}: node 0 BATCH_MATMUL .* on the CPU as host INT8, which require_npu forbids"
    for _ in range(2):
        with pytest.raises(RuntimeError, match=message):
            graphs.runner(KEY)
    assert graphs.counts.runners == 0
    graphs.close()
    assert claiming.closed_early == 0


def test_blobs_without_a_delegate_run_on_the_host_and_that_is_said(bundle: Path) -> None:
    npu = f"blobs:{bundle / 'estimates.zip'}"
    graphs = estimator(bundle, npu)
    with pytest.warns(RuntimeWarning, match=r"blobs estimates.zip through no delegate: not at all: .* as host INT8"):
        check(graphs, KEY)
    with pytest.raises(RuntimeError, match="which require_npu forbids"):
        estimator(bundle, npu, require_npu=True).runner(KEY)
    graphs.close()


def test_many_nodes_are_counted_not_listed() -> None:
    nodes = tuple(Node(i, BATCH_MATMUL, "", "xnnpack") for i in range(6))
    words = Delegation("g", nodes).left_in_words()
    assert words.endswith("node 3 BATCH_MATMUL (xnnpack), and 2 more")
    assert Delegation("g", (Node(0, 32, "DISPATCH_OP", "QnnDelegate"),)).extent is Extent.TAKEN


def test_the_host_without_xnnpack_warns() -> None:
    slow = Delegation("estimate_5_32_3_0", (Node(0, BATCH_MATMUL, "", "litert builtin"),))
    message = r"^estimate_5_32_3_0: 1 matrix products \(first: node 0\) are run by litert builtin, not by XNNPACK"
    with pytest.warns(RuntimeWarning, match=message):
        judge(slow, NpuChoice.parse("host"))


def test_the_report_is_a_table(bundle: Path) -> None:
    graphs = estimator(bundle, "host")
    check(graphs, KEY)
    lines = format_table(EstimateRow._fields, graphs.report()).splitlines()
    assert lines[0].split() == [*EstimateRow._fields]
    assert KEY.name in lines[2]
    graphs.close()
