"""Session: one conversation with a bundle. Open, chat, complete, and beneath them prefill, decode, generate, score."""

import dataclasses
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from shadowattn.models.bundle import Manifest
from shadowattn.runtime.executor import engine as engines
from shadowattn.runtime.executor.chunking import Chunk
from shadowattn.runtime.executor.engine import Engine
from shadowattn.runtime.executor.fused import Executor, FusedExecutor
from shadowattn.runtime.pipeline.executor import PipelinedExecutor
from shadowattn.runtime.pipeline.options import PipelineOptions
from shadowattn.runtime.session.arguments import bundle_path, check_arguments
from shadowattn.runtime.session.cached_tokens import CachedTokens, Progress
from shadowattn.runtime.session.generation import GenerateOptions, Generation, GenerationPlan
from shadowattn.runtime.session.instruments import Instruments
from shadowattn.runtime.session.prompts import (
    Messages,
    Prompt,
    check_ids,
    check_messages,
    check_room,
    check_stop_ids,
    check_stop_strings,
    check_text,
    one_token,
    token_list,
)
from shadowattn.runtime.session.sampler import Sampler
from shadowattn.runtime.session.scoring import ScoreSlice, score_slices
from shadowattn.runtime.session.settings import IN_USE, CacheSettings, parse_settings, settings_for
from shadowattn.runtime.session.stats import SessionStats, session_stats
from shadowattn.runtime.session.threads import default_num_threads

if TYPE_CHECKING:  # at run time where text is first needed: token ids need none of it
    from shadowattn.runtime.session.text_stream import TextStream
    from shadowattn.runtime.text.tokenizer import BundleTokenizer


class Session(Instruments):
    """A KV cache in an opened bundle. Made by shadowattn.open(); a context manager.

    A prompt is a text (str), or token ids: integers in a list, or in an array of shape [n] or [1,n]. A text becomes
    the ids of `tokenizer`, with the special tokens that the model wants in front (a BOS, say) where the cache is empty.

    Sessions of the same bundle (with the same num_threads and isa) share weights and may be used from different
    threads, where they are interleaved chunk by chunk. One session belongs to one thread at a time: a second thread
    gets ValueError, except from cancel(). After any exception, Ctrl-C included, the session holds the tokens of the
    chunks that were finished (see `tokens`) and can go on. After os.fork() the child cannot use the parent's sessions
    (RuntimeError), only its own. A bundle that was replaced while open gives RuntimeError as soon as another of its
    graphs, or its tokenizer, is needed.
    """

    def __init__(self, engine: Engine, executor: Executor, settings: CacheSettings) -> None:
        """Use shadowattn.open()."""
        self._engine = engine
        self._cached = CachedTokens(engine, executor, settings)
        self._cancelled = threading.Event()  # of the call that cancel() would end
        self._generation: Generation | None = None

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
        engine = engines.acquire(bundle_path(bundle), threads, isa or "auto", verbosity)
        try:
            choices = {"mode": mode, "keep_ratio": keep_ratio, "cache_type": cache_type}
            forced = {"min_k": min_k, "sinks": sinks, "latest": latest}
            rule = {"threshold": threshold, "max_skipped_mass": max_skipped_mass, "compensate": compensate}
            defaults = parse_settings(engine.shadow.cache_defaults)
            settings = settings_for(engine.manifest, defaults, max_length, **choices, **forced, **rule)
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
        """What the bundle says about itself and its model."""
        return self._engine.manifest

    @property
    def tokenizer(self) -> "BundleTokenizer":
        """The bundle's: encode(text) -> token ids, decode(token_ids) -> text. Raises ValueError if it has none."""
        return self._engine.tokenizer

    @property
    def tokens(self) -> list[int]:
        """Token ids in the cache (a copy)."""
        return list(self._cached.tokens)

    @property
    def length(self) -> int:
        """Positions in the cache: tokens."""
        return self._cached.length

    @property
    def max_length(self) -> int:
        """Positions that the session may hold."""
        return self._cached.settings.max_length

    @property
    def settings(self) -> CacheSettings:
        """mode, keep_ratio and their kin, as they are now."""
        return self._cached.settings

    @property
    def num_threads(self) -> int:
        """Threads of the graphs and the custom ops."""
        return self._engine.num_threads

    @property
    def isa(self) -> str:
        """The ISA level of the custom ops."""
        return self._engine.shadow.isa

    @property
    def stop_reason(self) -> str | None:
        """Why the last generate(), chat() or complete() ended: stop_token, stop_string, max_new_tokens, context_full or
        cancelled; None before its end."""
        return self._generation.stop_reason if self._generation else None

    def __repr__(self) -> str:
        about = f"mode {self.settings.mode}, keep_ratio {self.settings.keep_ratio}"
        state = f"{self.length:,} of {self.max_length:,} tokens" if self._cached.is_open else "closed"
        return f"<shadowattn Session of {self.manifest.name}: {about}, {state}>"

    # --- text in, text out ---

    def chat(
        self,
        messages: Messages,
        max_new_tokens: int | None = None,
        *,
        stop_strings: str | Iterable[str] = (),
        **options: Unpack[GenerateOptions],
    ) -> "TextStream":
        """The assistant's answer to messages such as {"role": "user", "content": "Hello"}, by the model's own template.

        The answer is an iterator of pieces of text: work begins with the first next(), read() gives all of it at once.
        Give the whole conversation each time; what the cache holds of it is not computed again. A special token's text
        in a message (`<|im_end|>`) becomes that token: filter it out of messages you do not trust.

        max_new_tokens, options: as of generate(). stop_strings: the answer ends before the first of them. Raises
        ValueError, at once, for a bundle without tokenizer or chat template, for messages that the template refuses,
        and as generate().
        """
        found = check_messages(messages)
        if self.manifest.tokenizer.chat_template is None:
            raise ValueError(
                f"{self.manifest.name}: the bundle has no chat template (the model is not made for chat); "
                "give the whole text to complete()"
            )
        ids = self.tokenizer.encode_chat(self._engine.chat_template.render(found))
        return self._stream(ids, [], max_new_tokens, stop_strings, options)

    def complete(
        self,
        text: str,
        max_new_tokens: int | None = None,
        *,
        stop_strings: str | Iterable[str] = (),
        **options: Unpack[GenerateOptions],
    ) -> "TextStream":
        """How the text goes on, as chat() gives it: an iterator of pieces; read() gives all of it.

        Raises ValueError, at once, for a bundle without tokenizer, and as generate().
        """
        ids = self.tokenizer.encode(check_text(text))
        return self._stream(ids, ids, max_new_tokens, stop_strings, options)

    def _stream(
        self,
        ids: list[int],
        before: list[int],
        max_new_tokens: int | None,
        stop_strings: str | Iterable[str],
        options: GenerateOptions,
    ) -> "TextStream":
        from shadowattn.runtime.session.text_stream import TextStream

        stops = check_stop_strings(stop_strings)
        return TextStream(self.generate(ids, max_new_tokens, **options), self.tokenizer, before, stops)

    def cancel(self) -> None:
        """Ends what the session is doing, from any thread. generate(), chat() and complete() end before their next
        token, with the stop_reason "cancelled"; prefill() and score() raise shadowattn.CancelledError before their next
        chunk. The session keeps the finished chunks and can go on. Calls that begin later are not ended."""
        self._cancelled.set()

    # --- tokens in, logits or tokens out ---

    def prepare(self, num_tokens: int) -> None:
        """Opens now what a prompt of that many more tokens, and decoding after it, will need: packing weights takes a
        moment and memory, and would otherwise be part of the first prefill. Raises ValueError if they do not fit."""
        cached = self._cached
        cached.check_open()
        check_room(num_tokens, self.length, self.max_length)
        end = self.length
        with cached.alone:
            for chunk in [*cached.plan(num_tokens), Chunk(1, 1)]:
                end = min(end + chunk.n_valid, self.max_length)
                with self._engine.lock:
                    cached.executor.prepare(chunk.length, end, self.settings)

    def prefill(self, prompt: Prompt, *, on_progress: Progress | None = None) -> np.ndarray:
        """Appends a prompt to the cache -> float32 [vocab], logits after its last token. May be called again to go on.

        on_progress(done, total), in tokens, is called after each chunk. Raises ValueError for no tokens, for what is
        not a prompt, an id outside the vocabulary or more tokens than fit; CancelledError after cancel().
        """
        cached = self._cached
        cached.check_open()
        with cached.alone:
            ids = check_ids(self._ids(prompt, starts=not cached.tokens), self.manifest, self.max_length, self.length)
            for result in cached.advance(ids, on_progress, self._begin(), cached.revision):
                logits = result.logits
        return logits

    def decode(self, token: int) -> np.ndarray:
        """Appends one token id -> float32 [vocab], logits after it. Raises ValueError as prefill does, and before the
        first prefill."""
        cached = self._cached
        cached.check_open()
        if not cached.tokens:
            raise ValueError("decode before prefill: the cache is empty; call prefill(prompt) first")
        with cached.alone:
            ids = check_ids([one_token(token)], self.manifest, self.max_length, self.length)
            return cached.step(Chunk(1, 1), ids).logits

    def generate(  # noqa: PLR0913
        self,
        prompt: Prompt,
        max_new_tokens: int | None = None,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        stop_token_ids: Iterable[int] | None = None,
        logprobs: bool = False,
        on_progress: Progress | None = None,
    ) -> Generation:
        """The tokens that follow the whole prompt, an iterator of ids. Work begins with the first next().

        max_new_tokens: None for as many as the context holds. temperature: 0 takes the likeliest token; above it,
        logits are divided by it and a token is drawn, from the top_k likeliest (0: from all) and, of those, from the
        likeliest that together have the probability top_p. repetition_penalty: above 1 makes tokens less likely that
        were there before. None for these four: as the bundle's makers have it (manifest.sampling). seed: the same seed
        draws the same tokens. stop_token_ids: end the answer, and are not part of it; None: the bundle's. logprobs:
        keep `.logprobs` beside the tokens. on_progress: of the prompt, as of prefill.

        The longest common prefix of prompt and cache is kept, only the rest is prefilled; nothing is kept of rows that
        were computed with other settings than now (see configure). The cache must not change between two next(), or
        the second raises RuntimeError. See stop_reason for why it ended. Raises ValueError, at once, for what is no
        prompt or does not fit, and for arguments that are impossible.
        """
        cached = self._cached
        cached.check_open()
        ids = check_ids(self._ids(prompt, starts=True), self.manifest, self.max_length)
        stop = self.manifest.tokenizer.stop_token_ids if stop_token_ids is None else stop_token_ids
        given = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "repetition_penalty": repetition_penalty}
        chosen = {name: value for name, value in given.items() if value is not None}
        sampler = Sampler(**(dataclasses.asdict(self.manifest.sampling) | chosen), seed=seed)
        stops = frozenset(check_stop_ids(stop, self.manifest))
        plan = GenerationPlan(ids, max_new_tokens, sampler, stops, logprobs, on_progress)
        with cached.alone:
            self._generation = Generation(cached, plan, self._begin())
        return self._generation

    def score(self, prompt: Prompt, *, on_progress: Progress | None = None) -> np.ndarray:
        """float32 [n-1]: natural logarithm of the probability of token i+1 given tokens 0 .. i. Starts by emptying the
        cache.

        Afterwards the cache holds all tokens but the last. Raises ValueError for fewer than two tokens, or as prefill.
        """
        with self._cached.alone:
            return np.concatenate([part.logprobs for part in self.score_slices(prompt, on_progress=on_progress)])

    def score_slices(self, prompt: Prompt, *, on_progress: Progress | None = None) -> Iterator[ScoreSlice]:
        """score() piece by piece, with the logits: at most score_rows x vocab of them exist at a time.

        The cache must not change meanwhile, or the next piece raises RuntimeError.
        """
        cached = self._cached
        cached.check_open()
        ids = check_ids(self._ids(prompt, starts=True), self.manifest, self.max_length + 1)
        if len(ids) < 2:
            raise ValueError(f"score needs at least 2 tokens, got {len(ids)}")
        with cached.alone:
            cached.rewind(0)
            results = cached.advance(ids[:-1], on_progress, self._begin(), cached.revision, wants_hidden=True)
        return score_slices(cached, (result.hidden for result in results if result.hidden is not None), ids[1:])

    def _ids(self, prompt: Any, starts: bool) -> list[int]:
        """Token ids of a prompt. starts: whether it stands at the beginning of the cache."""
        if isinstance(prompt, str):
            return self.tokenizer.encode(check_text(prompt), add_special_tokens=starts)
        return token_list(prompt)

    def _begin(self) -> threading.Event:
        """What tells a call that begins now that it was cancelled."""
        self._cancelled = threading.Event()
        return self._cancelled

    # --- the cache ---

    def rewind(self, length: int) -> None:
        """Forgets every position from `length` on. Raises ValueError for more than `length` now, or less than 0."""
        with self._cached.alone:
            self._cached.rewind(length)

    def reset(self) -> None:
        """Forgets everything; settings and statistics stay."""
        self.rewind(0)

    def configure(self, **changes: Any) -> None:
        """Changes how the next tokens attend; what is in the cache stays. Raises ValueError.

        changes: mode, keep_ratio, threshold, max_skipped_mass, compensate, min_k, sinks, latest as in open(); None
        leaves one as it is. prefill and decode go on from there, and so mix rows of both settings; generate() does not,
        it starts anew.
        """
        self._cached.check_open()
        if unknown := sorted(set(changes) - set(IN_USE)):
            raise ValueError(f"configure: cannot change {', '.join(unknown)}; allowed are {', '.join(IN_USE)}")
        with self._cached.alone:
            self._cached.configure(self.settings.changed(**changes))

    # --- what happened ---

    def stats(self) -> SessionStats:
        """Counts and seconds since open() or reset_stats()."""
        cached = self._cached
        cached.check_open()
        with self._engine.lock:
            counts = self._engine.shadow.cache_stats(cached.handle)
        return session_stats(counts, cached.executor.seconds, cached.executor.copied_bytes)

    def reset_stats(self) -> None:
        """Counts, seconds and observations begin anew."""
        cached = self._cached
        cached.check_open()
        with self._engine.lock:
            self._engine.shadow.reset_cache_stats(cached.handle)
            self._engine.shadow.reset_observed(cached.handle)
        cached.executor.reset_stats()

    def close(self) -> None:
        """Frees the cache, and the weights with the last session of the bundle. May be called again."""
        self._cached.close()

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
