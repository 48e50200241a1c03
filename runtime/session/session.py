"""Session: one conversation with a bundle. Open, prefill, decode, rewind, generate, score."""

import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from shadowattn.models.bundle import Manifest
from shadowattn.runtime.executor import engine as engines
from shadowattn.runtime.executor.chunking import Chunk, plan_chunks, worth_running
from shadowattn.runtime.executor.engine import Engine, NodeRow
from shadowattn.runtime.executor.fused import Executor, FusedExecutor, Step, StepResult
from shadowattn.runtime.pipeline.executor import PipelinedExecutor
from shadowattn.runtime.pipeline.options import PipelineOptions
from shadowattn.runtime.session.arguments import check_arguments
from shadowattn.runtime.session.observing import HEADS, HeadStats, SessionObserver
from shadowattn.runtime.session.sampler import Sampler
from shadowattn.runtime.session.scoring import ScoreSlice, score_slices
from shadowattn.runtime.session.settings import IN_USE, CacheSettings, settings_for
from shadowattn.runtime.session.stats import SessionStats, session_stats
from shadowattn.runtime.session.threads import default_num_threads
from shadowattn.runtime.session.token_ids import check_ids, check_room, common_prefix

Progress = Callable[[int, int], None]
STOP_TOKEN, MAX_NEW_TOKENS, CONTEXT_FULL = "stop_token", "max_new_tokens", "context_full"  # why an answer ended


class Session:
    """A KV cache in an opened bundle. Made by Session.open(); a context manager.

    Sessions of the same bundle (with the same num_threads and isa) share weights and may be used from different
    threads, where they take turns chunk by chunk; one session belongs to one thread at a time. After any exception,
    Ctrl-C included, the session holds the tokens of the chunks that were finished (see `tokens`) and can go on. After
    os.fork() the child cannot use the parent's sessions (RuntimeError), only its own. A bundle that was replaced while
    open gives RuntimeError as soon as another of its graphs is needed.
    """

    def __init__(self, engine: Engine, executor: Executor, settings: CacheSettings) -> None:
        """Use Session.open()."""
        self._engine = engine
        self._executor = executor
        self._settings = settings
        self._tokens: list[int] = []
        self._computed_with: CacheSettings | None = None  # settings of every row in the cache; None: of several
        self._revision = 0  # counts changes of the cache, for iterators that are under way
        self._stop_reason: str | None = None
        self._cache = engine.shadow.create_cache(settings.creation_text())
        self._forgotten = weakref.finalize(self, engines.release_later, engine, self._cache)

    @classmethod
    def open(  # noqa: PLR0913  (keywords with defaults)
        cls,
        bundle: str | Path,
        *,
        num_threads: int | None = None,
        mode: str | None = None,
        keep_ratio: float | str | None = None,
        executor: str = "fused",
        pipeline: PipelineOptions | None = None,
        cache_type: str | None = None,
        min_k: int | None = None,
        sinks: int | None = None,
        latest: int | None = None,
        threshold: float | None = None,
        max_skipped_mass: float | None = None,
        compensate: bool | None = None,
        isa: str | None = None,
        max_length: int | None = None,
        verbosity: int = 0,
    ) -> "Session":
        """Opens a bundle folder. None means the default: of the bundle, of docs/op_spec.md, or of this machine.

        num_threads: 1 to 64. mode: one of modes.MODES. keep_ratio: a share in (0, 1], or "auto". threshold,
        max_skipped_mass and compensate: of mode shadow (docs/op_spec.md). executor: fused or pipelined; pipeline: how
        the latter runs. cache_type: f16 or f32. max_length: positions the session may hold, at most the bundle's.
        Raises ValueError that names what is wrong with an argument, the bundle or the delegate library.
        """
        threads = default_num_threads() if num_threads is None else num_threads
        check_arguments(threads, executor, isa or "auto", pipeline)
        engine = engines.acquire(Path(bundle), threads, isa or "auto", verbosity)
        try:
            choices = {"mode": mode, "keep_ratio": keep_ratio, "cache_type": cache_type}
            forced = {"min_k": min_k, "sinks": sinks, "latest": latest}
            rule = {"threshold": threshold, "max_skipped_mass": max_skipped_mass, "compensate": compensate}
            settings = settings_for(engine.manifest, max_length, **choices, **forced, **rule)
            with engine.lock:
                how = (
                    FusedExecutor(engine)
                    if executor == "fused"
                    else PipelinedExecutor(engine, pipeline or PipelineOptions())
                )
            return cls(engine, how, settings)
        except BaseException:
            engines.release(engine)
            raise

    # --- facts ---

    @property
    def manifest(self) -> Manifest:
        return self._engine.manifest

    @property
    def tokens(self) -> list[int]:
        """Token ids in the cache (a copy)."""
        return list(self._tokens)

    @property
    def length(self) -> int:
        """Positions in the cache."""
        return len(self._tokens)

    @property
    def max_length(self) -> int:
        return self._settings.max_length

    @property
    def settings(self) -> CacheSettings:
        """mode, keep_ratio and their kin, as they are now."""
        return self._settings

    @property
    def num_threads(self) -> int:
        return self._engine.num_threads

    @property
    def isa(self) -> str:
        """The ISA level of the custom ops."""
        return self._engine.shadow.isa

    @property
    def stop_reason(self) -> str | None:
        """Why the last generate() ended: stop_token, max_new_tokens or context_full; None while it runs."""
        return self._stop_reason

    # --- text in, logits out ---

    def prepare(self, num_tokens: int) -> None:
        """Opens now what a prompt of that many more tokens, and decoding after it, will need: packing weights takes a
        moment and memory, and would otherwise be part of the first prefill. Raises ValueError if they do not fit."""
        self._check_open()
        check_room(num_tokens, self.length, self.max_length)
        end = self.length
        for chunk in [*self._plan(num_tokens), Chunk(1, 1)]:
            end = min(end + chunk.n_valid, self.max_length)
            with self._engine.lock:
                self._executor.prepare(chunk.length, end, self._settings)

    def prefill(self, token_ids: Iterable[int], *, on_progress: Progress | None = None) -> np.ndarray:
        """Appends tokens to the cache -> float32 [vocab], logits after the last. May be called again to continue.

        on_progress(done, total) is called after each chunk. Raises ValueError for no tokens, an id outside the
        vocabulary or more tokens than fit.
        """
        self._check_open()
        ids = check_ids(token_ids, self.manifest, self.max_length, self.length)
        for result in self._advance(ids, on_progress, self._revision):
            logits = result.logits
        return logits

    def decode(self, token_id: int) -> np.ndarray:
        """Appends one token -> float32 [vocab]. Raises ValueError as prefill does, and before the first prefill."""
        self._check_open()
        if not self._tokens:
            raise ValueError("decode before prefill: the cache is empty; call prefill(token_ids) first")
        ids = check_ids([token_id], self.manifest, self.max_length, self.length)
        return self._run(Chunk(1, 1), ids, wants_hidden=False).logits

    def generate(  # noqa: PLR0913
        self,
        token_ids: Iterable[int],
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
        repetition_penalty: float = 1.0,
        stop_token_ids: Iterable[int] | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[int]:
        """Yields the tokens that follow token_ids, the whole prompt. Work begins with the first next().

        The longest common prefix of prompt and cache is kept, only the rest is prefilled; nothing is kept of rows that
        were computed with other settings than now (see configure). The cache must not change between two next(), or
        the second raises RuntimeError. Ends at a stop token (not
        yielded; None: the bundle's), after max_new_tokens, or when the context is full: see stop_reason. Sampling:
        see Sampler. Raises ValueError, at once, for arguments that prefill or Sampler would refuse.
        """
        self._check_open()
        sampler = Sampler(temperature, top_k, top_p, seed, repetition_penalty)
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be positive, got {max_new_tokens}")
        ids = check_ids(token_ids, self.manifest, self.max_length)
        stop = self.manifest.tokenizer.stop_token_ids if stop_token_ids is None else stop_token_ids
        return self._generate(ids, max_new_tokens, sampler, frozenset(stop), on_progress)

    def score(self, token_ids: Iterable[int], *, on_progress: Progress | None = None) -> np.ndarray:
        """float32 [n-1]: log-probability of token i+1 given tokens 0 .. i. Starts by emptying the cache.

        Afterwards the cache holds all tokens but the last. Raises ValueError for fewer than two tokens, or as prefill.
        """
        return np.concatenate([part.logprobs for part in self.score_slices(token_ids, on_progress=on_progress)])

    def score_slices(self, token_ids: Iterable[int], *, on_progress: Progress | None = None) -> Iterator[ScoreSlice]:
        """score() piece by piece, with the logits: at most score_rows x vocab of them exist at a time.

        The cache must not change meanwhile, or the next piece raises RuntimeError.
        """
        self._check_open()
        ids = check_ids(token_ids, self.manifest, self.max_length + 1)
        if len(ids) < 2:
            raise ValueError(f"score needs at least 2 tokens, got {len(ids)}")
        self.reset()
        results = self._advance(ids[:-1], on_progress, self._revision, wants_hidden=True)
        return score_slices(self._engine, (result.hidden for result in results if result.hidden is not None), ids[1:])

    # --- the cache ---

    def rewind(self, length: int) -> None:
        """Forgets every position from `length` on. Raises ValueError for more than `length` now, or less than 0."""
        self._check_open()
        if not 0 <= length <= self.length:
            raise ValueError(f"rewind to {length}: must be between 0 and the session's length {self.length}")
        if length < self.length:
            self._revision += 1
        del self._tokens[length:]
        self._match_cache()

    def reset(self) -> None:
        """Forgets everything; settings and statistics stay."""
        self.rewind(0)

    def configure(self, **changes: Any) -> None:
        """Changes how the next tokens attend; what is in the cache stays. Raises ValueError.

        changes: mode, keep_ratio, threshold, max_skipped_mass, compensate, min_k, sinks, latest as in open(); None
        leaves one as it is. prefill and decode go on from there, and so mix rows of both settings; generate() does not,
        it starts anew.
        """
        self._check_open()
        if unknown := sorted(set(changes) - set(IN_USE)):
            raise ValueError(f"configure: cannot change {', '.join(unknown)}; allowed are {', '.join(IN_USE)}")
        changed = self._settings.changed(**changes)
        with self._engine.lock:
            self._engine.shadow.configure_cache(self._cache, changed.in_use_text())
        self._settings = changed

    @property
    def pipelined(self) -> PipelinedExecutor:
        """The executor that runs head groups: its options, record and trace. Raises ValueError if it is another."""
        if not isinstance(self._executor, PipelinedExecutor):
            raise ValueError("the session runs fused graphs; open it with executor='pipelined'")
        return self._executor

    def make_pipeline(self, options: PipelineOptions) -> PipelinedExecutor:
        """Another way to run head groups, for use_pipeline(). Raises ValueError."""
        self._check_open()
        with self._engine.lock:
            return PipelinedExecutor(self._engine, options)

    def use_pipeline(self, executor: PipelinedExecutor) -> None:
        """The next chunks run so; what is in the cache stays. executor: of make_pipeline(), of this session or another
        on the same engine. Raises ValueError for others, and for a session of fused graphs."""
        if self.pipelined.engine is not executor.engine:
            raise ValueError(
                "the executor runs another bundle's graphs, or with other threads or ISA; make it with this "
                "session's make_pipeline()"
            )
        self._executor = executor

    def set_factors(self, factors: np.ndarray | None) -> None:
        """Factors [layers, heads] of the heads' thresholds in mode shadow instead of the plan's (0: a head reads all,
        inf: it puts out zeros); None: the plan's again. Raises ValueError."""
        self._check_open()
        with self._engine.lock:
            self._engine.shadow.set_factors(self._cache, factors)
        self._computed_with = None

    # --- what happened ---

    def stats(self) -> SessionStats:
        """Counts and seconds since open() or reset_stats()."""
        self._check_open()
        with self._engine.lock:
            cache = self._engine.shadow.cache_stats(self._cache)
        return session_stats(cache, self._executor.seconds, self._executor.copied_bytes)

    def reset_stats(self) -> None:
        self._check_open()
        with self._engine.lock:
            self._engine.shadow.reset_cache_stats(self._cache)
            self._engine.shadow.reset_observed(self._cache)
        self._executor.reset_stats()

    @property
    def observer(self) -> SessionObserver:
        """What can be watched of the rows to come; nothing is, until it is told."""
        self._check_open()
        return SessionObserver(self._engine, self._cache)

    def observe_heads(self, on: bool = True) -> None:
        """Watches what head_stats() tells, from nothing: it costs time. Ends other observations."""
        self.observer.observe(*([HEADS] if on else []))

    def head_stats(self) -> HeadStats:
        """How much each head reads and finds, since observe_heads() or reset_stats()."""
        return self.observer.head_stats()

    def who_runs(self) -> list[NodeRow]:
        """(signature, node index, op, runner) of every node of the signatures that were prepared, for all sessions of
        the engine. runner: shadow, xnnpack or litert builtin. A Shadow op not run by us raises at first use, a matrix
        product outside XNNPACK warns."""
        self._check_open()
        return self._engine.who_runs()

    def close(self) -> None:
        """Frees the cache, and the weights with the last session of the bundle. May be called again."""
        if self._forgotten.detach() is not None:
            engines.release(self._engine, self._cache)

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- inside ---

    def _generate(
        self, ids: list[int], max_new_tokens: int, sampler: Sampler, stop: frozenset[int], on_progress: Progress | None
    ) -> Iterator[int]:
        self._stop_reason = None
        kept = common_prefix(self._tokens, ids) if self._computed_with == self._settings else 0
        self.rewind(min(kept, len(ids) - 1))
        logits = self.prefill(ids[self.length :], on_progress=on_progress)
        for count in range(1, max_new_tokens + 1):
            token = sampler(logits, self._tokens)
            if token in stop:
                self._stop_reason = STOP_TOKEN
                return
            ended = MAX_NEW_TOKENS if count == max_new_tokens else CONTEXT_FULL if self._is_full else None
            self._stop_reason = ended
            revision = self._revision
            yield token
            if ended:
                return
            self._check_unchanged(revision)
            logits = self.decode(token)

    def _advance(
        self, ids: list[int], on_progress: Progress | None, revision: int, wants_hidden: bool = False
    ) -> Iterator[StepResult]:
        """Runs ids chunk by chunk, as long as nobody else changes the cache of that revision."""
        done = 0
        for chunk in self._plan(len(ids)):
            self._check_unchanged(revision)
            result = self._run(chunk, ids[done : done + chunk.n_valid], wants_hidden)
            revision = self._revision
            yield result
            done += chunk.n_valid
            if on_progress is not None:
                on_progress(done, len(ids))

    def _plan(self, num_tokens: int) -> list[Chunk]:
        with self._engine.lock:
            ladder = worth_running(num_tokens, self.manifest.prefill_chunks, self._executor.is_open)
        return plan_chunks(num_tokens, ladder)

    def _run(self, chunk: Chunk, ids: list[int], wants_hidden: bool) -> StepResult:
        """One chunk. Whatever goes wrong, the delegate's cache is taken back to the tokens of this session."""
        engines.collect()
        try:
            with self._engine.lock:
                self._check_open()
                self._match_cache()
                step = Step(chunk.length, ids, self.length, self._cache, self._settings, wants_hidden)
                result = self._executor.run(step)
            self._computed_with = self._settings if self._computed_with == self._settings or not self._tokens else None
            self._revision += 1
            self._tokens.extend(ids)
            return result
        except BaseException:
            self._match_cache()
            raise

    def _match_cache(self) -> None:
        """The delegate's rows beyond our tokens go: after rewind(), a failed chunk, a Ctrl-C just after a commit."""
        with self._engine.lock:
            if self._forgotten.alive and self._engine.shadow.cache_length(self._cache) != self.length:
                self._engine.shadow.rewind_cache(self._cache, self.length)

    @property
    def _is_full(self) -> bool:
        return self.length >= self.max_length

    def _check_open(self) -> None:
        if not self._forgotten.alive:
            raise ValueError("the session is closed; open another with Session.open(bundle)")
        if self._engine.forked:
            raise RuntimeError("the session was opened before os.fork(); open another in this process")

    def _check_unchanged(self, revision: int) -> None:
        if self._revision != revision:
            raise RuntimeError(
                "the session's cache was changed while generate() or score_slices() was under way; finish one "
                "iteration before the next call, or open a second session (it shares the weights)"
            )
