"""What is measured end to end: this project's runtime in its modes, and its peers."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

OURS = "shadowattn"
REFERENCE = "torch"  # whose first token is the right one


@dataclasses.dataclass(frozen=True)
class System:
    """name: of --systems. title: for people. module: of its process; environment: below the peers' folder, None: this
    interpreter's. variant: which form the process is to open."""

    name: str
    title: str
    weights: str
    module: str
    environment: str | None = None
    variant: str = ""

    def interpreter(self, peers_dir: Path) -> Path | None:
        """The Python that runs it. None: not installed."""
        if self.environment is None:
            needed = ("torch", "transformers") if self.name == REFERENCE else ()
            return Path(sys.executable) if all(map(importlib.util.find_spec, needed)) else None
        folder = peers_dir / f"venv_{self.environment}"
        return (folder / "bin" / "python").absolute() if (folder / ".installed").is_file() else None


_PEERS = (
    System("openvino:xattention", "OpenVINO GenAI, XAttention (sparse)", "INT8", "peers.openvino_pipeline", "openvino",
           "xattention"),
    System("openvino", "OpenVINO GenAI, float32 attention", "INT8", "peers.openvino_pipeline", "openvino"),
    System("litert_lm", "LiteRT-LM", "INT8", "peers.litert_lm_engine", "litert_lm"),
    System("llama_cpp", "llama.cpp, flash attention", "Q8_0", "peers.llama_cpp_bindings", "llama_cpp"),
    System(REFERENCE, "torch, transformers", "float32", "peers.torch_transformers"),
)  # fmt: skip
DEFAULT = (OURS, *(peer.name for peer in _PEERS))


def system_named(name: str) -> System:
    """One of DEFAULT, or `shadowattn:MODE` with a mode as in `shadowattn eval --modes`. Raises ValueError."""
    own, _, mode = name.partition(":")
    if own == OURS:
        return System(name, f"{OURS}, {mode or 'default'}", "INT8", "peers.shadowattn_session", None, mode)
    for peer in _PEERS:
        if peer.name == name:
            return peer
    raise ValueError(f"--systems: wanted some of {', '.join(DEFAULT)}, or {OURS}:MODE; got {name!r}")
