"""One engine per open bundle in a process: the delegate, the interpreters and the lock that all its sessions share.

Thread-safety: sessions of one bundle may be used from different threads; their calls on the engine take turns, one
chunk at a time. One session belongs to one thread at a time.
"""

import dataclasses
import threading
from pathlib import Path
from typing import NamedTuple

from shadowattn.models import plan as plan_file
from shadowattn.models.bundle import MANIFEST, MODEL, Graph, Manifest, read_manifest
from shadowattn.runtime import litert
from shadowattn.runtime.delegate import ShadowDelegate, ShadowLibrary, library_path
from shadowattn.runtime.resident import trim_heap


@dataclasses.dataclass(frozen=True)
class EngineKey:
    """What two sessions must have in common to share weights. `manifest` is the identity of its file on disk."""

    bundle: Path
    manifest: tuple[int, int, int, int]
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
        """Raises ValueError if the delegate or the model file does not load or does not match the manifest."""
        self.lock = threading.RLock()
        self.manifest = manifest
        self.num_threads = key.num_threads
        self._key = key
        self._users = 0
        self._sets: dict[str, litert.GraphSet] = {}
        library = ShadowLibrary(key.library)
        options = {
            "num_threads": key.num_threads,
            "plan": key.bundle / plan_file.FILE_NAME,
            "isa": key.isa,
            "max_length": manifest.max_length,
            "keep_ratio": manifest.keep_ratio,
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

    def who_runs(self) -> list[NodeRow]:
        """Every node of every prepared signature."""
        with self.lock:
            return [
                NodeRow(signature, node.index, litert.op_name(node), node.runner)
                for graphs in self._sets.values()
                for signature, nodes in graphs.nodes().items()
                for node in nodes
            ]

    def close(self) -> None:
        """Interpreters first, then the delegate they use."""
        for graphs in self._sets.values():
            graphs.close()
        self._sets.clear()
        del self._plugin
        trim_heap()

    def _graph_set(self, graph: Graph) -> litert.GraphSet:
        """The interpreter that the graph's group shares; opened now if it is the first of them."""
        name = graph_group(graph)
        if name not in self._sets:
            members = [other.signature for other in self.manifest.graphs if graph_group(other) == name]
            self.shadow.set_signatures(members)
            self._sets[name] = litert.GraphSet(self._key.bundle / MODEL, self._plugin, self.num_threads)
        return self._sets[name]


def graph_group(graph: Graph) -> str:
    """Graphs of one group live in one interpreter. XNNPACK packs weights once per signature of it, so fused graphs and
    `score` have their own, opened when a prompt first needs them; the split graphs of one chunk length run together.
    """
    return graph.signature if graph.role in ("prefill", "decode", "score") else f"split_{graph.chunk}"


_engines: dict[EngineKey, Engine] = {}
_registry_lock = threading.RLock()


def acquire(bundle: Path, num_threads: int, isa: str, verbosity: int) -> Engine:
    """The engine of a bundle, shared if one is open with the same threads and ISA. Raises ValueError.

    verbosity is the first session's.
    """
    manifest = read_manifest(bundle)
    status = (bundle / MANIFEST).stat()
    identity = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
    key = EngineKey(bundle.resolve(), identity, library_path(), num_threads, isa)
    with _registry_lock:
        if key not in _engines:
            _engines[key] = Engine(key, manifest, verbosity)
        engine = _engines[key]
        engine._users += 1
        return engine


def release(engine: Engine) -> None:
    """Gives an acquired engine back; the last one closes it."""
    with _registry_lock:
        engine._users -= 1
        if engine._users > 0:
            return
        del _engines[engine._key]
    with engine.lock:
        engine.close()


def num_engines() -> int:
    """Engines open in this process."""
    return len(_engines)
