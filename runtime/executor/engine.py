"""One engine per open bundle in a process: the delegate, the interpreters and the lock that all its sessions share.

Thread-safety: sessions of one bundle may be used from different threads; their calls on the engine alternate, one
chunk at a time. One session belongs to one thread at a time.
"""

import atexit
import collections
import contextlib
import dataclasses
import functools
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shadowattn.models import estimate_graphs
from shadowattn.models import plan as plan_file
from shadowattn.models.bundle import MANIFEST, MODEL, Graph, Manifest, read_manifest
from shadowattn.models.plan import Plan
from shadowattn.runtime.litert import interpreter as litert
from shadowattn.runtime.litert.delegate import ShadowDelegate, ShadowLibrary, library_path
from shadowattn.runtime.litert.nodes import Node
from shadowattn.runtime.litert.resident import trim_heap
from shadowattn.runtime.pipeline.estimates import Estimator
from shadowattn.runtime.pipeline.options import NpuChoice

if TYPE_CHECKING:  # at run time where text is first needed: token ids need none of it
    from shadowattn.runtime.text.chat import ChatTemplate
    from shadowattn.runtime.text.tokenizer import BundleTokenizer


@dataclasses.dataclass(frozen=True)
class EngineKey:
    """What two sessions must have in common to share weights. `files`: device, inode, size and time of the bundle's."""

    bundle: Path
    files: tuple[tuple[int, int, int, int], ...]
    library: Path
    num_threads: int
    isa: str


class NodeRow(NamedTuple):
    """Who runs a node of the model file: shadow, xnnpack, litert builtin, or the name of another delegate."""

    signature: str
    index: int  # type: ignore[assignment]  # shadows tuple.index
    op: str
    runner: str


class Engine:
    """The delegate and the interpreters of one bundle. Made by acquire(), closed by the last release()."""

    def __init__(self, key: EngineKey, manifest: Manifest, verbosity: int) -> None:
        """Raises ValueError if the delegate or the model file does not load or does not match the manifest.

        RuntimeError if the bundle was replaced meanwhile.
        """
        self.lock = threading.RLock()
        self.manifest = manifest
        self.num_threads = key.num_threads
        self.key = key
        self.forked = False  # made by the parent process: unusable here
        self._sets: dict[str, litert.GraphSet] = {}
        self._estimators: dict[NpuChoice, Estimator] = {}
        library = ShadowLibrary(key.library)
        options = {
            "num_threads": key.num_threads,
            "plan": key.bundle / manifest.plan_file,
            "isa": key.isa,
            "max_length": manifest.max_length,
            "keep_ratio": "auto" if manifest.keep_ratio is None else manifest.keep_ratio,
            "verbosity": verbosity,
        }
        self._plugin = litert.load_delegate(key.library, options)
        self.shadow = ShadowDelegate(library, litert.delegate_pointer(self._plugin))
        try:
            self._graph_set(manifest.graph("decode")).check(manifest, str(key.bundle / MODEL))
        except BaseException:
            self.close()
            raise

    def runner(self, signature: str) -> litert.GraphRunner:
        """A signature, opened and prepared at first use. Hold the lock. Raises ValueError, RuntimeError."""
        return self._graph_set(self.manifest.graph(signature)).runner(signature)

    def is_open(self, signature: str) -> bool:
        """Whether the interpreter that packs the signature's weights is there already. Hold the lock."""
        return graph_group(self.manifest.graph(signature)) in self._sets

    @functools.cached_property
    def plan(self) -> Plan:
        """The bundle's plan. Raises ValueError if it is damaged."""
        path = self.key.bundle / self.manifest.plan_file
        return Plan.from_bytes(path.read_bytes(), str(path))

    @functools.cached_property
    def tokenizer(self) -> "BundleTokenizer":
        """The bundle's tokenizer. Raises ValueError if it has none, RuntimeError if the bundle was replaced."""
        from shadowattn.runtime.text.tokenizer import BundleTokenizer

        tokenizer = BundleTokenizer.open(self.key.bundle, self.manifest)
        self._check_files()
        return tokenizer

    @functools.cached_property
    def chat_template(self) -> "ChatTemplate":
        """The bundle's chat template. Raises ValueError if it has none, RuntimeError if the bundle was replaced."""
        from shadowattn.runtime.text.chat import ChatTemplate

        template = ChatTemplate.open(self.key.bundle, self.manifest)
        self._check_files()
        return template

    def estimator(self, choice: NpuChoice) -> Estimator:
        """The estimate graphs as that choice runs them, one for all sessions. Hold the lock. Raises ValueError."""
        if choice not in self._estimators:
            grid = self.plan.grid
            multipliers = {estimate_graphs.RANK_INVARIANT: self.plan.estimate_multiplier}
            multipliers |= {bucket: grid.multiplier(bucket) for bucket in range(1, 1 + grid.count)} if grid else {}
            self._estimators[choice] = Estimator(choice, self.key.bundle, self.manifest.model, multipliers)
        return self._estimators[choice]

    def node_assignments(self) -> list[NodeRow]:
        """Every node of every prepared signature, and of every estimate graph."""
        with self.lock:
            found: list[Mapping[str, Sequence[Node]]] = [graphs.nodes() for graphs in self._sets.values()]
            found += [estimator.nodes() for estimator in self._estimators.values()]
        return [
            NodeRow(signature, node.index, litert.op_name(node), node.runner)
            for part in found
            for signature, nodes in part.items()
            for node in nodes
        ]

    def close(self) -> None:
        """Interpreters first, then the delegate they use."""
        for estimator in self._estimators.values():
            estimator.close()
        self._estimators.clear()
        for graphs in self._sets.values():
            graphs.close()
        self._sets.clear()
        del self._plugin
        trim_heap()

    def abandon(self) -> None:
        """In a forked child: nothing of it is ever destroyed, see _after_fork()."""
        self.forked = True
        self.lock = threading.RLock()
        litert.keep_alive(self._plugin)
        for graphs in self._sets.values():
            graphs.keep_alive()
        for estimator in self._estimators.values():
            estimator.abandon()

    def _graph_set(self, graph: Graph) -> litert.GraphSet:
        """The interpreter that the graph's group shares; opened now if it is the first of them."""
        name = graph_group(graph)
        if name not in self._sets:
            members = [other.signature for other in self.manifest.graphs if graph_group(other) == name]
            self._check_files()
            self.shadow.set_signatures(members)
            graphs = litert.GraphSet(self.key.bundle / MODEL, self._plugin, self.num_threads)
            try:
                self._check_files()  # again: it may have been replaced while it was opened
            except RuntimeError:
                graphs.close()
                raise
            self._sets[name] = graphs
        return self._sets[name]

    def _check_files(self) -> None:
        """Raises RuntimeError if the files are not those the engine was opened with: weights of two models in one
        session would give wrong answers."""
        if _identity(self.key.bundle) != self.key.files:
            raise RuntimeError(f"{self.key.bundle}: the bundle was replaced while it was open; open a new session")


def graph_group(graph: Graph) -> str:
    """Graphs of one group live in one interpreter. XNNPACK packs weights once per signature of it, so fused graphs and
    `score` have their own, opened when a prompt first needs them; the split graphs of one chunk length run together.
    """
    return graph.signature if graph.role in ("prefill", "decode", "score") else f"split_{graph.chunk}"


@dataclasses.dataclass(eq=False)
class _Entry:
    """A place in the registry: `users` counts acquire() calls, the engine is opened by the first of them."""

    users: int = 0
    opening: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    engine: Engine | None = None


# Locks. The registry's is held for a few statements, never while waiting for another lock nor while a model loads. The
# garbage collector may end a session at any moment, in a thread that holds any lock: it puts the session here and waits
# for nothing (collect); whoever comes next frees it.
_entries: dict[EngineKey, _Entry] = {}
_registry_lock = threading.Lock()
_given_back: collections.deque[tuple[Engine, int | None]] = collections.deque()
_exiting = False


def acquire(bundle: Path, num_threads: int, isa: str, verbosity: int) -> Engine:
    """The engine of a bundle, shared if one is open with the same threads and ISA. Raises ValueError.

    verbosity is the first session's; 0 keeps LiteRT's INFO lines off standard error.
    """
    collect()
    if verbosity == 0:
        litert.keep_infos_off_stderr()
    files = _identity(bundle)  # before anything is read: what changes later is then noticed
    manifest = read_manifest(bundle)
    key = EngineKey(_utf8(bundle.resolve()), files, library_path(), num_threads, isa)
    with _registry_lock:
        entry = _entries.setdefault(key, _Entry())
        entry.users += 1
    try:
        with entry.opening:  # others of this bundle wait here, those of other bundles do not
            if entry.engine is None:
                entry.engine = Engine(key, manifest, verbosity)
            return entry.engine
    except BaseException:
        with _registry_lock:
            _count_down(key)
        raise


def release(engine: Engine, cache: int | None = None) -> None:
    """Gives an acquired engine back, with the cache a session had in it; the last one closes the engine."""
    if not _free(engine, cache, wait=True):
        _given_back.append((engine, cache))
    collect()


def release_later(engine: Engine, cache: int) -> None:
    """release() for the garbage collector: waits for no lock, except at interpreter exit."""
    _given_back.append((engine, cache))
    collect(wait=_exiting)


def collect(*, wait: bool = False) -> None:
    """Frees what release_later() got, as far as its locks are free now."""
    for _ in range(len(_given_back)):
        try:
            engine, cache = _given_back.popleft()
        except IndexError:  # another thread was faster
            return
        if not _free(engine, cache, wait):
            _given_back.append((engine, cache))


def num_engines() -> int:
    """Engines open in this process."""
    collect()
    return len(_entries)


def _free(engine: Engine, cache: int | None, wait: bool) -> bool:
    """False: nothing was done, because a lock is taken."""
    if engine.forked:  # what it has belongs to the parent process
        return True
    if not engine.lock.acquire(blocking=wait):
        return False
    try:
        # A timeout: the collector may have interrupted this very thread where it holds the registry's lock.
        if not _registry_lock.acquire(timeout=1):
            return False
        try:
            last = _count_down(engine.key)
        finally:
            _registry_lock.release()
        if cache is not None:
            engine.shadow.destroy_cache(cache)
        if last:
            engine.close()
    finally:
        engine.lock.release()
    return True


def _count_down(key: EngineKey) -> bool:
    """One user less; whether it was the last. Hold the registry's lock."""
    entry = _entries[key]
    entry.users -= 1
    if entry.users == 0:
        del _entries[key]
    return entry.users == 0


def _identity(bundle: Path) -> tuple[tuple[int, int, int, int], ...]:
    """What tells the files of a bundle from others of the same name; a missing one is read_manifest()'s to report."""
    found = []
    for name in (MANIFEST, MODEL, plan_file.FILE_NAME, plan_file.NEXT_FILE_NAME, estimate_graphs.FILE_NAME):
        with contextlib.suppress(OSError):
            status = (bundle / name).stat()
            found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _utf8(path: Path) -> Path:
    """LiteRT and the delegate take UTF-8 paths only. Raises ValueError."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{str(path)!a}: wanted a path in UTF-8, got other bytes; rename the folder") from None
    return path


def _at_exit() -> None:
    """Runs before or after the finalizers of weakref; in both cases everything is freed while modules still live."""
    global _exiting
    _exiting = True
    collect(wait=True)


def _after_fork() -> None:
    """In the child: the threads of the parent's interpreters do not exist here, so destroying those would wait for
    ever. They are left alone, their sessions refuse to run, and new sessions get engines of their own."""
    global _registry_lock
    _registry_lock = threading.Lock()  # a thread that does not exist here may hold the other
    for entry in _entries.values():
        if entry.engine is not None:
            entry.engine.abandon()
    for engine, _ in _given_back:
        engine.abandon()
    _entries.clear()
    _given_back.clear()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
