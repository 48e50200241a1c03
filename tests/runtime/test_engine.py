"""The engine under its sessions: a bundle replaced while open, locks when the collector strikes, forked processes."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import write_tiny_bundle

from shadowattn.models.bundle import MODEL
from shadowattn.models.plan import FILE_NAME as PLAN
from shadowattn.runtime import Session
from shadowattn.runtime.executor import engine as engines
from shadowattn.runtime.executor.engine import num_engines
from shadowattn.runtime.executor.fused import FusedExecutor
from shadowattn.runtime.litert import interpreter as litert

REPLACED = "the bundle was replaced while it was open; open a new session"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_tiny_bundle(tmp_path / "bundle", seed=1)
    return tmp_path / "bundle"


# --- a bundle that changes on disk ---


@pytest.mark.parametrize("executor", ["fused", "pipelined"])
def test_a_replaced_bundle_is_noticed(bundle: Path, tmp_path: Path, executor: str) -> None:
    """Graphs are opened when they are first needed: they must come from the file that the session began with."""
    with Session.open(bundle, executor=executor) as session:
        write_tiny_bundle(tmp_path / "other", seed=2)
        shutil.rmtree(bundle)
        (tmp_path / "other").rename(bundle)  # what `convert --overwrite` does
        for _ in range(2):
            with pytest.raises(RuntimeError, match=REPLACED):
                session.prefill(list(range(1, 11)))
        assert session.length == 0
        with Session.open(bundle) as new:
            assert new._engine is not session._engine
            new.prefill(list(range(1, 11)))
    assert num_engines() == 0


@pytest.mark.parametrize("name", [MODEL, PLAN])
def test_a_file_written_in_place_is_noticed(bundle: Path, name: str) -> None:
    with Session.open(bundle) as session:
        logits = session.prefill([1])  # one graph is open already and goes on
        (bundle / name).write_bytes((bundle / name).read_bytes())
        os.utime(bundle / name, ns=(1, 1))
        with pytest.raises(RuntimeError, match=REPLACED):
            session.score([1, 2, 3])
        session.reset()
        assert np.array_equal(session.prefill([1]), logits)


def test_replaced_while_a_graph_is_opened(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowSet(litert.GraphSet):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            os.utime(bundle / MODEL, ns=(1, 1))

    with Session.open(bundle) as session:
        monkeypatch.setattr(litert, "GraphSet", SlowSet)
        with pytest.raises(RuntimeError, match=REPLACED):
            session.prefill([1, 2, 3, 4])


def test_a_path_that_is_not_utf8(bundle: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(bundle.parent) + b"/\xff"))
    bundle.rename(odd)
    with pytest.raises(ValueError, match=r"udcff': wanted a path in UTF-8, got other bytes; rename the folder"):
        Session.open(odd)


# --- locks ---


def test_collected_while_each_thread_holds_a_lock(bundle: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread loads another bundle, one runs a chunk; in both a session of `bundle` is collected meanwhile."""
    session = Session.open(bundle, num_threads=1)
    garbage = {name: Session.open(bundle, num_threads=1) for name in ("load", "run")}
    both = threading.Barrier(2, timeout=10)
    load_delegate, run = litert.load_delegate, FusedExecutor.run

    def slow_load(*arguments: Any) -> Any:
        both.wait()
        del garbage["load"]
        return load_delegate(*arguments)

    def slow_run(self: FusedExecutor, step: Any) -> Any:
        both.wait()
        del garbage["run"]
        return run(self, step)

    monkeypatch.setattr(litert, "load_delegate", slow_load)
    monkeypatch.setattr(FusedExecutor, "run", slow_run)
    ended: list[str] = []
    threads = [
        threading.Thread(target=lambda: (Session.open(tiny, num_threads=1).close(), ended.append("load")), daemon=True),
        threading.Thread(target=lambda: (session.prefill([1] * 4), ended.append("run")), daemon=True),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(ended) == ["load", "run"]
    session.close()
    assert num_engines() == 0


def test_collected_while_the_engine_is_busy_waits_its_turn(tiny: Path) -> None:
    """A collection in one thread never waits for the chunk of another; the next call frees what it left."""
    with Session.open(tiny) as session:
        garbage = [Session.open(tiny)]
        thread = threading.Thread(target=garbage.clear)
        with session._engine.lock:
            thread.start()
            thread.join(10)
            assert not thread.is_alive()
            assert session._engine.shadow.num_caches == 2
        session.prefill([1])
        assert session._engine.shadow.num_caches == 1
    assert num_engines() == 0


def test_collected_inside_the_registry(tiny: Path) -> None:
    session = Session.open(tiny)
    with engines._registry_lock:
        del session
    assert num_engines() == 0


def test_loading_one_bundle_does_not_block_another(bundle: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, finish = threading.Event(), threading.Event()
    load_delegate = litert.load_delegate

    def slow_load(*arguments: Any) -> Any:
        started.set()
        assert finish.wait(20)
        return load_delegate(*arguments)

    opened: list[Session] = []
    with Session.open(tiny) as keeper, monkeypatch.context() as patch:
        patch.setattr(litert, "load_delegate", slow_load)
        threads = [threading.Thread(target=lambda: opened.append(Session.open(bundle))) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert started.wait(20)
        with Session.open(tiny) as other:
            assert other._engine is keeper._engine
        finish.set()
        for thread in threads:
            thread.join(20)
    assert opened[0]._engine is opened[1]._engine
    for session in opened:
        session.close()
    assert num_engines() == 0


# --- fork ---

CHILDREN = {
    "exits": "sys.exit(0)",
    "closes": "s.close(); os._exit(0)",
    "collects": "del s; os._exit(0)",
    "opens its own": """
t = Session.open(p, num_threads=2, min_k=4, executor=executor)
same = (t.prefill(ids) == wanted).all()
t.close()
sys.exit(not same)
""",
    "is refused": """
try:
    s.prefill([1])
except RuntimeError as error:
    os._exit("opened before os.fork(); open another in this process" not in str(error))
os._exit(1)
""",
}


@pytest.mark.parametrize("executor", ["fused", "pipelined"])
@pytest.mark.parametrize("name", CHILDREN)
def test_a_forked_child(tiny: Path, name: str, executor: str) -> None:
    """It has none of the parent's threads: whatever it does with the parent's session, it must not wait for them."""
    script = f"""
import os, sys
from shadowattn.runtime import Session
p, executor, ids = {str(tiny)!r}, {executor!r}, list(range(90))
s = Session.open(p, num_threads=2, min_k=4, executor=executor)
wanted = s.prefill(ids)
child = os.fork()
if child == 0:
    import signal
    signal.alarm(20)
    exec({CHILDREN[name]!r})
_, status = os.waitpid(child, 0)
s.reset()
print(status, (s.prefill(ids) == wanted).all())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "0 True\n", done.stderr


def test_a_forked_child_drops_a_delegate(tiny: Path) -> None:
    """The delegate's own threads, without LiteRT's."""
    script = f"""
import os, signal
from pathlib import Path
from shadowattn.runtime.litert.delegate import library_path
from shadowattn.runtime.litert.interpreter import load_delegate
delegate = load_delegate(library_path(), {{"num_threads": 3, "plan": {str(tiny / PLAN)!r}}})
child = os.fork()
if child == 0:
    signal.alarm(20)
    del delegate
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "0\n", done.stderr
