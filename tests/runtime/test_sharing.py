"""Sessions of one bundle share an engine; nothing leaks; closing works in any order, also at interpreter exit."""

import gc
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from resident_growth import growth_of

from shadowattn.runtime import Session
from shadowattn.runtime.executor.engine import num_engines

CYCLES = Path(__file__).with_name("sessions_in_turn.py")


def test_two_sessions_share_one_engine(tiny: Path, text: list[int]) -> None:
    with Session.open(tiny, num_threads=1) as first, Session.open(tiny, num_threads=1, mode="dense") as second:
        assert num_engines() == 1
        assert first._engine is second._engine
        with Session.open(tiny, num_threads=2) as third:
            assert third._engine is not first._engine
        sparse, dense = first.prefill(text[:90]), second.prefill(text[:90])
        assert first.tokens == second.tokens
        assert not np.array_equal(sparse, dense)
        second.rewind(3)
        first.decode(1)
        assert (first.length, second.length) == (91, 3)
    assert num_engines() == 0


def test_one_may_close_before_the_other(tiny: Path, text: list[int]) -> None:
    first, second = Session.open(tiny), Session.open(tiny)
    wanted = first.prefill(text[:30])
    first.close()
    assert np.array_equal(second.prefill(text[:30]), wanted)
    second.close()
    assert num_engines() == 0


def test_threads_take_turns(tiny: Path, text: list[int]) -> None:
    """Four sessions in four threads, interleaved by chunks, get what one gets alone."""
    prompts = [text[start : start + 100] for start in (0, 20, 40, 60)]
    alone = []
    for prompt in prompts:
        with Session.open(tiny, num_threads=1) as session:
            alone.append([session.prefill(prompt), session.decode(3)])
    together: list[list[np.ndarray]] = [[] for _ in prompts]

    def work(number: int) -> None:
        with Session.open(tiny, num_threads=1) as session:
            together[number] = [session.prefill(prompts[number]), session.decode(3)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for found, wanted in zip(together, alone, strict=True):
        assert all(np.array_equal(f, w) for f, w in zip(found, wanted, strict=True))


def test_a_forgotten_session_is_collected(tiny: Path) -> None:
    session = Session.open(tiny)
    session.prefill([1, 2, 3])
    del session
    gc.collect()
    assert num_engines() == 0


def test_a_thousand_sessions_leak_nothing(tiny: Path) -> None:
    """A thousand caches on one engine, and a hundred engines."""
    found = growth_of(CYCLES, str(tiny))
    assert found["sessions"] < 512, found
    assert found["engines"] < 16384, found


def test_a_leak_of_a_page_would_be_seen(tiny: Path) -> None:
    found = growth_of(CYCLES, str(tiny), "--leak=16384")
    assert found["sessions"] >= 512, found
    assert found["engines"] >= 16384, found


SCRIPTS = {
    "open at exit": "s = Session.open(p); s.prefill([1, 2, 3])",
    "two open at exit": "a = Session.open(p); b = Session.open(p); a.prefill([1]); b.prefill([2])",
    "a view outlives its session": """
s = Session.open(p); s.prefill([1, 2]); view = s._engine.runner("decode").inputs["tokens"]; s.close(); view[0] = 1
""",
    "exception inside with": """
try:
    with Session.open(p) as s:
        s.prefill([1, 2]); raise KeyboardInterrupt
except KeyboardInterrupt as error:
    kept = error
""",
    "generator half way at exit": "s = Session.open(p); g = s.generate([1, 2, 3], 20); next(g)",
    "a daemon thread is busy at exit": """
import threading
s = Session.open(p, num_threads=1); busy = threading.Event()
def work():
    while True:
        s.reset(); s.prefill([1] * 200); busy.set()
threading.Thread(target=work, daemon=True).start(); busy.wait()
""",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_interpreter_exit(tiny: Path, name: str) -> None:
    script = f"from shadowattn.runtime import Session\np = {str(tiny)!r}\n{SCRIPTS[name]}\nprint('end')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "end\n"
    noise = [line for line in done.stderr.splitlines() if not line.startswith("INFO:")]
    assert not noise or name.startswith("a daemon"), done.stderr


def test_nothing_of_torch_is_loaded(tiny: Path) -> None:
    script = f"""
import sys
from shadowattn.runtime import Session
with Session.open({str(tiny)!r}) as session:
    session.prefill([1, 2, 3])
print([name for name in sys.modules if name.split('.')[0] in ('torch', 'transformers', 'jax', 'tensorflow')])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "[]\n"
