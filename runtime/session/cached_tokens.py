"""The tokens of a session and the delegate's rows of them, which stay equal whatever goes wrong."""

import threading
import weakref
from collections.abc import Callable, Iterator

from shadowattn.runtime.executor import engine as engines
from shadowattn.runtime.executor.chunking import Chunk, plan_chunks, worth_running
from shadowattn.runtime.executor.engine import Engine
from shadowattn.runtime.executor.fused import Executor, Step, StepResult
from shadowattn.runtime.session.one_thread import OneThread
from shadowattn.runtime.session.settings import CacheSettings

Progress = Callable[[int, int], None]  # (tokens done, tokens in all), after each chunk


class CancelledError(RuntimeError):
    """cancel() ended a prefill or a score between two chunks. The session holds the finished ones and can go on."""


class CachedTokens:
    """One KV cache of an engine. Frees it, and the weights with the last cache of the bundle, when nobody refers to it.

    executor: what runs the next chunks. alone: held by the thread that uses the session. computed_with: the settings of
    every row in the cache; None: of several. revision: counts changes, for iterators that are under way.
    """

    def __init__(self, engine: Engine, executor: Executor, settings: CacheSettings) -> None:
        self.engine = engine
        self.executor = executor
        self.settings = settings
        self.tokens: list[int] = []
        self.computed_with: CacheSettings | None = None
        self.revision = 0
        self.alone = OneThread()
        self.handle = engine.shadow.create_cache(settings.creation_text())
        self._freed = weakref.finalize(self, engines.release_later, engine, self.handle)

    @property
    def length(self) -> int:
        return len(self.tokens)

    @property
    def is_full(self) -> bool:
        return self.length >= self.settings.max_length

    @property
    def is_open(self) -> bool:
        return self._freed.alive

    def close(self) -> None:
        if self._freed.detach() is not None:
            engines.release(self.engine, self.handle)

    def check_open(self) -> None:
        """Raises ValueError, RuntimeError."""
        if not self.is_open:
            raise ValueError("the session is closed; open another with Session.open(bundle)")
        if self.engine.forked:
            raise RuntimeError("the session was opened before os.fork(); open another in this process")

    def check_unchanged(self, revision: int) -> None:
        """Raises RuntimeError."""
        if self.revision != revision:
            raise RuntimeError(
                "the session's cache was changed while generate() or score_slices() was under way; finish one "
                "iteration before the next call, or open a second session (it shares the weights)"
            )

    def plan(self, num_tokens: int) -> list[Chunk]:
        """The chunks that run so many tokens."""
        with self.engine.lock:
            ladder = worth_running(num_tokens, self.engine.manifest.prefill_chunks, self.executor.is_open)
        return plan_chunks(num_tokens, ladder)

    def advance(
        self,
        ids: list[int],
        on_progress: Progress | None,
        cancelled: threading.Event,
        revision: int,
        wants_hidden: bool = False,
    ) -> Iterator[StepResult]:
        """Runs ids chunk by chunk, as long as nobody else changes the cache of that revision.

        Raises CancelledError before the next chunk once the event is set.
        """
        done = 0
        for chunk in self.plan(len(ids)):
            self.check_unchanged(revision)
            if cancelled.is_set():
                raise CancelledError(
                    f"cancelled after {done} of {len(ids)} tokens; the session holds {self.length} and can go on"
                )
            result = self.step(chunk, ids[done : done + chunk.n_valid], wants_hidden)
            revision = self.revision
            yield result
            done += chunk.n_valid
            if on_progress is not None:
                on_progress(done, len(ids))

    def step(self, chunk: Chunk, ids: list[int], wants_hidden: bool = False) -> StepResult:
        """One chunk. Whatever goes wrong, the delegate's cache is taken back to the tokens that were here before."""
        engines.collect()
        try:
            with self.engine.lock:
                self.check_open()
                self._match()
                step = Step(chunk.length, ids, self.length, self.handle, self.settings, wants_hidden)
                result = self.executor.run(step)
            self.computed_with = self.settings if self.computed_with == self.settings or not self.tokens else None
            self.revision += 1
            self.tokens.extend(ids)
            return result
        except BaseException:
            self._match()
            raise

    def rewind(self, length: int) -> None:
        """Forgets every token from `length` on. Raises ValueError."""
        self.check_open()
        if isinstance(length, bool) or not hasattr(length, "__index__") or not 0 <= length <= self.length:
            raise ValueError(
                f"rewind to {length!r}: must be an integer between 0 and the session's length {self.length}"
            )
        if length < self.length:
            self.revision += 1
        del self.tokens[length:]
        self._match()

    def reuse(self, ids: list[int]) -> list[int]:
        """Keeps the longest prefix that cache and prompt have in common, as far as its rows are of the settings now ->
        the tokens that are still to be run, at least one."""
        kept = common_prefix(self.tokens, ids) if self.computed_with == self.settings else 0
        self.rewind(min(kept, len(ids) - 1))
        return ids[self.length :]

    def configure(self, settings: CacheSettings) -> None:
        """The next rows are computed so. Raises ValueError."""
        with self.engine.lock:
            self.engine.shadow.configure_cache(self.handle, settings.in_use_text())
        self.settings = settings

    def _match(self) -> None:
        """The delegate's rows beyond our tokens go: after rewind(), a failed chunk, a Ctrl-C just after a commit."""
        with self.engine.lock:
            if self.is_open and self.engine.shadow.cache_length(self.handle) != self.length:
                self.engine.shadow.rewind_cache(self.handle, self.length)


def common_prefix(ours: list[int], theirs: list[int]) -> int:
    """How many tokens both begin with."""
    pairs = zip(ours, theirs, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))
