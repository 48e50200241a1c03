"""The re-authored model: four torch pieces from which every graph of a bundle is put together.

    residual, cos, sin -> BeforeAttention -> q, k, v      (custom op: attention)      o, residual -> AfterAttention ->
    residual

`Rope` makes cos and sin once per graph, `Final` ends the model. Embedding and lm_head are not here: they hold the
vocabulary, need no arithmetic of ours and are written by converter/vocabulary.py. Shapes: T rows of one prefill
chunk, D hidden size, H query heads, N_kv KV heads, d head dim. Parameter names within a piece are those of Hugging
Face within a layer.
"""

import torch
from torch import nn
from torch.nn import functional

from shadowattn.converter import toolchain
from shadowattn.converter.orthogonal import hadamard
from shadowattn.converter.rotation import down_block
from shadowattn.models.spec import ModelSpec

toolchain.load()  # defines torch.ops.tfl.*


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis. folded: the weight is in the linear layers behind it."""

    def __init__(self, size: int, eps: float, folded: bool = False) -> None:
        super().__init__()
        self.weight = None if folded else nn.Parameter(torch.randn(size))
        self._eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self._eps)
        return normed if self.weight is None else normed * self.weight


class ShiftedNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) - shift over the last axis: its weight, and what the shift takes from every row, are in
    the linear layers behind it (converter/rounded_layers.py)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(size))
        self._eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self._eps) - self.shift


class Rope(nn.Module):
    """position int32 [1] -> cos, sin float32 [1,T,1,d]; sin carries the sign of the rotation (first half negative)."""

    def __init__(self, spec: ModelSpec, chunk: int) -> None:
        super().__init__()
        self.register_buffer("steps", torch.arange(chunk, dtype=torch.int32), persistent=False)
        frequencies = torch.tensor(spec.rope.inverse_frequencies(spec.head_dim), dtype=torch.float32)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, position: torch.Tensor) -> dict[str, torch.Tensor]:
        angles = (position + self.steps).to(torch.float32)[:, None] * self.frequencies[None, :]
        cos, sin = torch.cos(angles), torch.sin(angles)
        return {
            "cos": torch.cat((cos, cos), dim=-1)[None, :, None, :],
            "sin": torch.cat((-sin, sin), dim=-1)[None, :, None, :],
        }


class _Projections(nn.Module):
    """Holder that gives the attention weights their Hugging Face names."""

    def __init__(self, spec: ModelSpec, rotated: bool) -> None:
        super().__init__()
        width = spec.num_heads * spec.head_dim
        kv_width = spec.num_kv_heads * spec.head_dim
        bias = spec.qkv_bias or rotated
        self.q_proj = nn.Linear(spec.hidden_size, width, bias=bias)
        self.k_proj = nn.Linear(spec.hidden_size, kv_width, bias=bias)
        self.v_proj = nn.Linear(spec.hidden_size, kv_width, bias=bias)
        if spec.qk_norm:
            self.q_norm = RmsNorm(spec.head_dim, spec.rms_norm_eps)
            self.k_norm = RmsNorm(spec.head_dim, spec.rms_norm_eps)


class BeforeAttention(nn.Module):
    """residual [1,T,D], cos, sin [1,T,1,d] -> q [1,T,H,d], k, v [1,T,N_kv,d]; rotary embedding applied to q and k."""

    def __init__(self, spec: ModelSpec, rotated: bool = False) -> None:
        """rotated: as converter/rotation.py leaves the weights."""
        super().__init__()
        self.spec = spec
        norm = ShiftedNorm if rotated else RmsNorm
        self.input_layernorm = norm(spec.hidden_size, spec.rms_norm_eps)
        self.self_attn = _Projections(spec, rotated)

    def forward(self, residual: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> dict[str, torch.Tensor]:
        spec, attention = self.spec, self.self_attn
        hidden = self.input_layernorm(residual)
        q = self._heads(attention.q_proj(hidden), spec.num_heads)
        k = self._heads(attention.k_proj(hidden), spec.num_kv_heads)
        v = self._heads(attention.v_proj(hidden), spec.num_kv_heads)
        if spec.qk_norm:
            q, k = attention.q_norm(q), attention.k_norm(k)
        return {"q": _rotate(q, cos, sin), "k": _rotate(k, cos, sin), "v": v}

    def _heads(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        return x.reshape(1, x.shape[1], heads, self.spec.head_dim)


class _OutputProjection(nn.Module):
    """Holder that gives o_proj its Hugging Face name."""

    def __init__(self, spec: ModelSpec, rotated: bool) -> None:
        super().__init__()
        width = spec.num_heads * spec.head_dim
        self.o_proj = nn.Linear(width, spec.hidden_size, bias=spec.output_bias or rotated)


class _Mlp(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)). rotated: with Hadamard blocks in front of down."""

    def __init__(self, spec: ModelSpec, rotated: bool) -> None:
        super().__init__()
        self._block = down_block(spec) if rotated else 1
        bias = spec.mlp_bias or rotated
        self.register_buffer("mix", torch.from_numpy(hadamard(self._block)), persistent=False)
        self.gate_proj = nn.Linear(spec.hidden_size, spec.intermediate_size, bias=bias)
        self.up_proj = nn.Linear(spec.hidden_size, spec.intermediate_size, bias=bias)
        self.down_proj = nn.Linear(spec.intermediate_size, spec.hidden_size, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = functional.silu(self.gate_proj(x)) * self.up_proj(x)
        if self._block > 1:
            blocks = inner.reshape(1, -1, inner.shape[-1] // self._block, self._block)
            inner = functional.linear(blocks, self.mix).reshape(inner.shape)
        return self.down_proj(inner)


class AfterAttention(nn.Module):
    """o [1,T,H*d], residual [1,T,D] -> residual [1,T,D] at the end of the layer."""

    def __init__(self, spec: ModelSpec, rotated: bool = False) -> None:
        """rotated: as converter/rotation.py leaves the weights, mixed in front of the down projection."""
        super().__init__()
        norm = ShiftedNorm if rotated else RmsNorm
        self.self_attn = _OutputProjection(spec, rotated)
        self.post_attention_layernorm = norm(spec.hidden_size, spec.rms_norm_eps)
        self.mlp = _Mlp(spec, rotated)

    def forward(self, o: torch.Tensor, residual: torch.Tensor) -> dict[str, torch.Tensor]:
        residual = residual + self.self_attn.o_proj(o)
        return {"residual": residual + self.mlp(self.post_attention_layernorm(residual))}


class Final(nn.Module):
    """residual [1,T,D], n_valid int32 [1] -> hidden [1,T,D] after the last norm; its row n_valid - 1 is last [1,1,D].

    n_valid is clamped to 1..T, so that a tool that fills integers at random runs the graph.
    """

    def __init__(self, spec: ModelSpec, rotated: bool = False) -> None:
        """rotated: as converter/rotation.py leaves the weights."""
        super().__init__()
        self.norm = RmsNorm(spec.hidden_size, spec.rms_norm_eps, rotated)

    def forward(self, residual: torch.Tensor, n_valid: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.norm(residual)
        highest = torch.tensor([residual.shape[1] - 1], dtype=torch.int32)
        lowest = torch.tensor([0], dtype=torch.int32)
        row = torch.ops.tfl.minimum(torch.ops.tfl.maximum(n_valid - 1, lowest), highest)
        return {"last": torch.ops.tfl.gather(hidden, row, 1), "hidden": hidden}


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x [1,T,heads,d] turned by its position's angles: the two parts of d are the two coordinates."""
    half = x.shape[-1] // 2
    swapped = torch.cat((x[..., half:], x[..., :half]), dim=-1)
    return x * cos + swapped * sin
