"""ModelSpec: the frozen facts of a decoder-only language model that a bundle is made from."""

import dataclasses
import math

MAX_LAYERS = 1024  # as the delegate's, like MAX_HEADS and MAX_HEAD_DIM
MAX_HEADS = 1024
MAX_HEAD_DIM = 512
MAX_LENGTH = 1 << 24
_MAX_SIZE = 2**31 - 1
_ROPE_KINDS = ("default", "linear", "llama3")


@dataclasses.dataclass(frozen=True)
class RopeSpec:
    """Rotary embedding: `kind` is default, linear or llama3 (which alone reads the last three)."""

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_length: int = 8192

    def __post_init__(self) -> None:
        if self.kind not in _ROPE_KINDS:
            raise ValueError(f"RoPE type {self.kind!r} is not supported; supported are {', '.join(_ROPE_KINDS)}")
        _need(1 <= self.theta < math.inf, "RoPE theta must be finite and at least 1", self.theta)
        _need(0 < self.factor < math.inf, "RoPE factor must be finite and positive", self.factor)
        _need_size("RoPE original_max_length", self.original_max_length, _MAX_SIZE)
        if self.kind == "llama3":
            low, high = self.low_freq_factor, self.high_freq_factor
            _need(
                0 < low < high < math.inf,
                "RoPE low_freq_factor must be positive and below high_freq_factor",
                (low, high),
            )

    def inverse_frequencies(self, head_dim: int) -> list[float]:
        """[head_dim/2] angles per position step; the scaling of long contexts is inside."""
        plain = [self.theta ** (-2.0 * i / head_dim) for i in range(head_dim // 2)]
        if self.kind == "linear":
            return [f / self.factor for f in plain]
        if self.kind == "llama3":
            return [self._llama3(f) for f in plain]
        return plain

    def _llama3(self, frequency: float) -> float:
        """Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between interpolated."""
        wavelength = 2.0 * math.pi / frequency
        if wavelength < self.original_max_length / self.high_freq_factor:
            return frequency
        if wavelength > self.original_max_length / self.low_freq_factor:
            return frequency / self.factor
        smooth = (self.original_max_length / wavelength - self.low_freq_factor) / (
            self.high_freq_factor - self.low_freq_factor
        )
        return (1.0 - smooth) * frequency / self.factor + smooth * frequency


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Sizes and switches of one decoder; everything the graphs depend on besides the weights."""

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    rope: RopeSpec
    max_length: int
    tied_embeddings: bool
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "intermediate_size"):
            _need_size(name, getattr(self, name), _MAX_SIZE)
        _need_size("num_layers", self.num_layers, MAX_LAYERS)
        for name in ("num_heads", "num_kv_heads"):
            _need_size(name, getattr(self, name), MAX_HEADS)
        _need_size("head_dim", self.head_dim, MAX_HEAD_DIM)
        _need_size("max_length", self.max_length, MAX_LENGTH)
        _need(0 < self.rms_norm_eps < math.inf, "rms_norm_eps must be finite and positive", self.rms_norm_eps)
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"{self.num_heads} query heads are not a multiple of {self.num_kv_heads} KV heads; "
                "check num_attention_heads and num_key_value_heads"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even for rotary embeddings, got {self.head_dim}")

    @property
    def group_size(self) -> int:
        """G: query heads per KV head."""
        return self.num_heads // self.num_kv_heads

    @property
    def softmax_scale(self) -> float:
        return self.head_dim**-0.5

    @property
    def num_parameters(self) -> int:
        """Weights of the model, embeddings counted once when tied; norms and biases are left out."""
        attention = self.hidden_size * self.head_dim * 2 * (self.num_heads + self.num_kv_heads)
        mlp = 3 * self.hidden_size * self.intermediate_size
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)
        return self.num_layers * (attention + mlp) + embeddings


def _need(ok: bool, wanted: str, got: object) -> None:
    if not ok:
        raise ValueError(f"{wanted}, got {got}; the model cannot be converted")


def _need_size(name: str, value: int, most: int) -> None:
    _need(1 <= value <= most, f"{name} must be in 1..{most}", value)
