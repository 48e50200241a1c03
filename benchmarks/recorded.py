"""Q, K and V as the model computes them on a text: what attention is timed with. Random rows have no heads that look
somewhere, and would flatter or punish whatever selects."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shadowattn.models.bundle import Manifest
from shadowattn.runtime.session.session import Session
from shadowattn.runtime.text.tokenizer import BundleTokenizer


@dataclasses.dataclass(frozen=True)
class Rows:
    """One layer's rows of a text, float32, RoPE applied: q [n,H,d], k and v [n,N_kv,d]. tiled: rows repeat."""

    layer: int
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    scale: float
    tiled: bool = False

    def first(self, count: int) -> "Rows":
        """The text's first `count` rows; where there are fewer, they repeat (their positions are then wrong)."""
        if count <= len(self.q):
            return dataclasses.replace(self, q=self.q[:count], k=self.k[:count], v=self.v[:count])
        order = np.arange(count) % len(self.q)
        return dataclasses.replace(self, q=self.q[order], k=self.k[order], v=self.v[order], tiled=True)

    @property
    def group(self) -> int:
        """G: query heads per KV head."""
        return self.q.shape[1] // self.k.shape[1]


def spread_layers(num_layers: int, count: int) -> list[int]:
    """`count` layers over the depth, each in the middle of its share."""
    count = min(count, num_layers)
    return [int((2 * index + 1) * num_layers / (2 * count)) for index in range(count)]


def read_tokens(bundle: Path, manifest: Manifest, text: Path | None, count: int) -> tuple[list[int], str]:
    """The first `count` tokens of a text and where they come from. Raises ValueError for a text that is too short."""
    if manifest.tokenizer.file is None:
        numbers = np.random.default_rng(0).integers(0, manifest.model.vocab_size, count)
        return numbers.tolist(), "random token ids (seed 0): the bundle has no tokenizer"
    if text is None:
        raise ValueError("--text: wanted a file of real text to record q, k and v from")
    tokens = BundleTokenizer.open(bundle, manifest).encode(text.read_text("utf-8"))
    if len(tokens) < count:
        raise ValueError(f"{text}: wanted at least {count:,} tokens, got {len(tokens):,}; give a longer text")
    return tokens[:count], str(text)


def record(bundle: Path, tokens: Sequence[int], layers: Sequence[int], num_threads: int, isa: str) -> list[Rows]:
    """Runs the split graphs with exact attention and keeps what goes into those layers' attention. Raises ValueError
    for a bundle without split graphs."""
    parts: dict[int, list[tuple[np.ndarray, ...]]] = {layer: [] for layer in layers}

    def note(layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> None:
        if layer in parts:
            parts[layer].append((q.copy(), k.copy(), v.copy()))

    settings = {"num_threads": num_threads, "isa": isa, "cache_type": "f32"}
    with Session.open(bundle, executor="pipelined", mode="dense", **settings) as session:  # type: ignore[arg-type]
        scale = session.manifest.model.softmax_scale
        with session.pipelined.watch(note):
            session.prefill(tokens)
    found = []
    for layer, chunks in parts.items():
        q, k, v = (np.concatenate(side) for side in zip(*chunks, strict=True))
        found.append(Rows(layer, q, k, v, scale))
    return found
