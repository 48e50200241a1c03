"""Running signatures through the subgraph interface: views, messages, and who must run what."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from shadowattn.models.bundle import MODEL
from shadowattn.runtime import Session
from shadowattn.runtime.executor.fused import Step
from shadowattn.runtime.litert.interpreter import ErrorLog, check_runners, op_name, short
from shadowattn.runtime.litert.nodes import BATCH_MATMUL, CUSTOM, FULLY_CONNECTED, Node, NodeProbe


def test_views_survive_the_preparation_of_other_signatures(tiny: Path, text: list[int]) -> None:
    """In one interpreter (a split chunk length), preparing the next bucket may move memory; results must not change."""
    with Session.open(tiny, executor="pipelined", cache_type="f32", min_k=1) as session:
        wanted = session.prefill(text[:16])
        before = session._engine.runner("linear_0_16")
        session.prefill(text[16:112])  # from bucket 64 to 256
        session.reset()
        assert np.array_equal(session.prefill(text[:16]), wanted)
        assert session._engine.runner("linear_0_16") is before


def test_results_are_copies(tiny: Path) -> None:
    with Session.open(tiny) as session:
        first = session.prefill([1, 2, 3])
        kept = first.copy()
        session.decode(4)
        assert first.flags.owndata
        assert np.array_equal(first, kept)


def test_a_foreign_shadow_op_is_an_error() -> None:
    node = Node(3, CUSTOM, "ShadowSparseAttention", "litert builtin")
    with pytest.raises(RuntimeError, match=r"decode: node 3 ShadowSparseAttention is run by litert builtin, not by us"):
        check_runners("decode", [node])


def test_a_graph_whose_op_is_not_ours_is_refused_every_time(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(3, CUSTOM, "ShadowSparseAttention", "another delegate")
    with Session.open(tiny) as session:
        with monkeypatch.context() as patch:
            patch.setattr(NodeProbe, "nodes", lambda *_: [node])
            for _ in range(2):
                with pytest.raises(RuntimeError, match=r"prefill_4: node 3 .* is run by another delegate, not by us"):
                    session.prefill([1, 2, 3])
        assert session.node_assignments() == []
        session.prefill([1, 2, 3])
        assert {row.signature for row in session.node_assignments()} == {"prefill_4"}


@pytest.mark.parametrize("code", [FULLY_CONNECTED, BATCH_MATMUL])
def test_a_slow_product_warns(code: int) -> None:
    with pytest.warns(RuntimeWarning, match=r"decode: 1 matrix products \(first: node 7\) are run by litert builtin"):
        check_runners("decode", [Node(6, code, "", "xnnpack"), Node(7, code, "", "litert builtin")])


def test_names_of_ops() -> None:
    assert op_name(Node(0, FULLY_CONNECTED, "", "xnnpack")) == "FULLY_CONNECTED"
    assert op_name(Node(0, CUSTOM, "ShadowSparseAttention", "shadow")) == "ShadowSparseAttention"
    assert op_name(Node(0, 9999, "", "shadow")) == "builtin 9999"


def test_messages_are_one_short_line() -> None:
    error = RuntimeError("k must be\n positive.Node number 3 (ShadowDelegate) failed to invoke.\nNode number 4 (WHILE)")
    assert short(error) == "k must be positive"
    assert short(RuntimeError("Node number 3 (ADD) failed to prepare.")) == "Node number 3 (ADD) failed to prepare."


def test_without_the_delegate(tiny: Path) -> None:
    with pytest.raises(RuntimeError, match="Encountered unresolved custom op: ShadowSparseAttention"):
        Interpreter(model_path=str(tiny / MODEL)).allocate_tensors()


def test_importing_the_package_is_light() -> None:
    script = "import sys, shadowattn.runtime; print([m for m in ('numpy', 'ai_edge_litert') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_every_failure_has_its_own_message(tiny: Path) -> None:
    """LiteRT's buffer keeps the messages of earlier failures, also those of other sessions."""
    with Session.open(tiny) as first, Session.open(tiny) as second:
        for session in (first, second):
            session.prefill([1, 2, 3])
        wrong = {
            "position 100 leaves a gap": {"position": 100},
            "cache 77 does not exist": {"cache": 77},
            "position must not be negative, got -5": {"position": -5},
            "cache 78 does not exist": {"cache": 78},
        }
        for session in (first, second):
            for message, change in wrong.items():
                arguments: dict[str, int] = {"position": 3, "cache": session._cached.handle} | change
                for _ in range(2):
                    with pytest.raises(RuntimeError, match=message) as caught:
                        session._cached.executor.run(Step(1, [1], settings=session.settings, **arguments))
                    assert sum(text in str(caught.value) for text in wrong) == 1
                session.decode(4)


def test_an_error_log_never_ends_up_empty() -> None:
    log = ErrorLog()
    assert log.news(RuntimeError("one.\n")) == "one."
    assert log.news(RuntimeError("one.\ntwo.\nNode number 3 (ADD) failed to invoke.\n")) == "two"
    assert log.news(RuntimeError("something else")) == "something else"
    assert log.news(RuntimeError("something else")) == "something else"
