"""One bundle under two settings, each in a process of its own, run interleaved: times, memory and distributions.

Two processes, so that a peak of memory belongs to one setting; interleaved, so that whatever else the machine does
falls on both. Every run resets its session, prefills the same tokens and decodes the same continuation, so
that both settings see the same input and their next-token distributions can be compared.
"""

import dataclasses
import multiprocessing
import resource
import signal
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

_JOIN_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Run:
    """One timed run. ttft: seconds of the prefill; tpot: milliseconds per decode; logits [1+n, vocab]."""

    ttft: float
    tpot: float
    decoded: tuple[int, ...]
    mean_keep_ratio: float
    cache_bytes: int
    peak_rss: int
    logits: np.ndarray | None


def medians(runs: Sequence[Run]) -> dict[str, Any]:
    """What a report says of the runs of one setting at one length: medians of the times, which are listed too."""
    return {
        "ttft_s": statistics.median(run.ttft for run in runs),
        "tpot_ms": statistics.median(run.tpot for run in runs),
        "ttft_s_runs": [run.ttft for run in runs],
        "tpot_ms_runs": [run.tpot for run in runs],
        "mean_keep_ratio": runs[-1].mean_keep_ratio,
        "cache_bytes": runs[-1].cache_bytes,
        "peak_rss_bytes": max(run.peak_rss for run in runs),
    }


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far next-token distributions are apart: KL(reference || other) in nats; agreement of the likeliest token."""

    kl_mean: float
    kl_max: float
    same_top_token: float
    positions: int


class SessionProcess:
    """A session in a child process. Every failure in there is raised here, with its message."""

    def __init__(self, name: str, bundle: Path, options: Mapping[str, Any]) -> None:
        self._name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, bundle, dict(options)), daemon=True)
        self._process.start()
        other.close()
        try:
            self.facts: dict[str, Any] = dict(self._result(None))
        except (EOFError, OSError):
            raise self._ended() from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "SessionProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(
        self,
        prompt: Sequence[int],
        continuation: Sequence[int] | int,
        *,
        want_logits: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Run:
        """Prefills the prompt from an empty cache, then decodes the continuation (a number: so many greedy tokens)."""
        return Run(**self._ask("run", (prompt, continuation, want_logits), on_progress))

    def node_assignments(self) -> list[tuple[str, str, str]]:
        """(signature, op, runner) of every node that was prepared so far."""
        return [(str(signature), str(op), str(runner)) for signature, op, runner in self._ask("node_assignments", ())]

    def close(self) -> None:
        """Ends the process, at once if it is busy."""
        self._pipe.close()
        self._process.terminate()
        self._process.join(_JOIN_SECONDS)

    def _ask(self, what: str, arguments: Any, on_progress: Callable[[int, int], None] | None = None) -> Any:
        try:
            self._pipe.send((what, arguments))
            return self._result(on_progress)
        except (EOFError, OSError):
            raise self._ended() from None

    def _result(self, on_progress: Callable[[int, int], None] | None) -> Any:
        while True:
            kind, body = self._pipe.recv()
            if kind == "progress" and on_progress is not None:
                on_progress(*body)
            elif kind == "error":
                raise RuntimeError(f"{self._name} run: {body}")
            elif kind == "result":
                return body

    def _ended(self) -> RuntimeError:
        self._process.join(_JOIN_SECONDS)
        return RuntimeError(
            f"the {self._name} run ended without an answer (exit code {self._process.exitcode}; -9 means that the "
            "system ran out of memory): use shorter prompts, or fewer prompt lengths at once"
        )


def difference(reference: np.ndarray, other: np.ndarray) -> Difference:
    """Compares two [n, vocab] arrays of logits row by row."""
    log_p, log_q = _log_softmax(reference), _log_softmax(other)
    kl = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
    same = reference.argmax(axis=-1) == other.argmax(axis=-1)
    return Difference(float(kl.mean()), float(kl.max()), float(same.mean()), len(kl))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


# --- in the child process ---


def _serve(pipe: Connection, bundle: Path, options: dict[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        from shadowattn.runtime.session.session import Session

        with Session.open(bundle, **options) as session:
            pipe.send(("result", {"num_threads": session.num_threads, "isa": session.isa}))
            while True:
                what, arguments = pipe.recv()
                pipe.send(("result", _DO[what](session, pipe, *arguments)))
    except (EOFError, OSError):  # the parent closed its end: the work is done
        return
    except Exception as error:  # all of it belongs to the parent
        pipe.send(("error", " ".join(str(error).split()) or type(error).__name__))


def _timed_run(
    session: Any, pipe: Connection, prompt: Sequence[int], continuation: Sequence[int] | int, want_logits: bool
) -> dict[str, Any]:
    session.reset()
    session.reset_stats()
    start = time.perf_counter()
    last_logits = session.prefill(prompt, on_progress=lambda done, total: pipe.send(("progress", (done, total))))
    likeliest = int(last_logits.argmax())  # the first token is known now
    first = time.perf_counter()
    logits = [last_logits]
    decoded = []
    for given in [None] * continuation if isinstance(continuation, int) else continuation:
        decoded.append(likeliest if given is None else given)
        last_logits = session.decode(decoded[-1])
        likeliest = int(last_logits.argmax())
        if want_logits:
            logits.append(last_logits)
    last = time.perf_counter()
    stats = session.stats()
    return {
        "ttft": first - start,
        "tpot": 1000 * (last - first) / max(len(decoded), 1),
        "decoded": tuple(decoded),
        "mean_keep_ratio": stats.mean_keep_ratio,
        "cache_bytes": stats.cache_bytes,
        "peak_rss": peak_rss(),
        "logits": np.stack(logits) if want_logits else None,
    }


def _node_assignments(session: Any, pipe: Connection) -> list[tuple[str, str, str]]:
    return [(row.signature, row.op, row.runner) for row in session.node_assignments()]


_DO: dict[str, Callable[..., Any]] = {"run": _timed_run, "node_assignments": _node_assignments}


def peak_rss() -> int:
    """Bytes of memory that this process held at most. VmHWM where there is one: ru_maxrss counts the parent's, too."""
    try:
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
