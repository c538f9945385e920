"""Small networks with attention in them, for `networks.NETWORKS`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mlp(dim: int, hidden: int, tanh: bool = False) -> nn.Module:
    return nn.Sequential(
        nn.Linear(dim, hidden), nn.GELU(approximate="tanh" if tanh else "none"), nn.Linear(hidden, dim)
    )


class PackedAttention(nn.Module):
    """Self-attention with one matrix for q, k and v; written out, or through `scaled_dot_product_attention`."""

    causal: Tensor | None

    def __init__(self, dim: int, heads: int, fused: bool, causal: int = 0) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.register_buffer("causal", torch.tril(torch.ones(causal, causal, dtype=torch.bool)) if causal else None)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal is not None)
        else:
            scores = (q @ k.transpose(-2, -1)) / math.sqrt(d // self.heads)
            if self.causal is not None:
                scores = scores.masked_fill(~self.causal[:n, :n], float("-inf"))
            y = F.softmax(scores, dim=-1) @ v
        return self.proj(y.transpose(1, 2).reshape(b, n, d))


class TorchAttention(nn.Module):
    """`nn.MultiheadAttention`, whose in_proj_weight packs q, k and v."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class QKVAttention(nn.Module):
    """Attention written out, q, k and v apart; `memory` gives keys and values."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        memory = x if memory is None else memory
        b, n, d = x.shape
        q, k, v = (
            f(t).view(b, -1, self.heads, d // self.heads).transpose(1, 2)
            for f, t in ((self.q, x), (self.k, memory), (self.v, memory))
        )
        y = F.softmax(q @ k.transpose(-1, -2) * (d // self.heads) ** -0.5, dim=-1) @ v
        return self.o(y.transpose(1, 2).reshape(b, n, d))


class TransformerBlock(nn.Module):
    def __init__(self, attention: nn.Module, dim: int, hidden: int, tanh: bool = False) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(dim), attention
        self.norm2, self.mlp = nn.LayerNorm(dim), mlp(dim, hidden, tanh)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches, class token, position table, transformer blocks; the class token is read out."""

    def __init__(self, *attentions: nn.Module, dim: int = 12) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, dim, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.position = nn.Parameter(torch.zeros(1, 5, dim))
        self.blocks = nn.Sequential(*(TransformerBlock(a, dim, 20) for a in attentions))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 7)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class Swin(nn.Module):
    """A patch embedding and one shifted-window block; `mask` keeps windows that wrap around apart."""

    offsets: Tensor
    mask: Tensor

    def __init__(self, dim: int = 6, heads: int = 2, side: int = 8, window: int = 4, shift: int = 2) -> None:
        super().__init__()
        self.dim, self.heads, self.side, self.window, self.shift = dim, heads, side, window, shift
        self.embed, self.norm1, self.norm2 = nn.Conv2d(3, dim, 2, 2), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj, self.mlp = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), mlp(dim, 2 * dim)
        self.table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        place = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        away = (place[:, :, None] - place[:, None, :]) + window - 1
        self.register_buffer("offsets", away[0] * (2 * window - 1) + away[1])
        cuts = torch.zeros(side, dtype=torch.long)
        cuts[side - window :], cuts[side - shift :] = 1, 2
        region = self.windows((3 * cuts[:, None] + cuts)[None, :, :, None]).squeeze(-1)
        self.register_buffer("mask", (region[:, None] != region[:, :, None]) * -100.0)

    def windows(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        k = self.window
        return x.view(b, h // k, k, w // k, k, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, k * k, c)

    def attend(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q * (d // self.heads) ** -0.5) @ k.transpose(-2, -1)
        scores = scores + self.table[self.offsets.view(-1)].view(n, n, -1).permute(2, 0, 1)[None]
        scores = scores.reshape(-1, len(self.mask), self.heads, n, n) + self.mask[:, None]
        y = F.softmax(scores.reshape(b, self.heads, n, n), dim=-1) @ v
        return self.proj(y.transpose(1, 2).reshape(b, n, d))

    def forward(self, image: Tensor) -> Tensor:
        x = self.embed(image).permute(0, 2, 3, 1)
        side, k = self.side, self.window
        y = torch.roll(self.norm1(x), (-self.shift, -self.shift), dims=(1, 2))
        y = self.attend(self.windows(y)).view(-1, side // k, side // k, k, k, self.dim)
        y = y.permute(0, 1, 3, 2, 4, 5).reshape(-1, side, side, self.dim)
        x = x + torch.roll(y, (self.shift, self.shift), dims=(1, 2))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """Token and learned position embeddings, causal attention (written out and fused), tanh GELU, its own head."""

    def __init__(self, vocabulary: int = 11, length: int = 6, dim: int = 8) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, dim), nn.Embedding(length, dim)
        blocks = [TransformerBlock(PackedAttention(dim, 2, f, length), dim, 20, tanh=True) for f in (False, True)]
        self.blocks, self.norm = nn.Sequential(*blocks), nn.LayerNorm(dim)
        self.head = nn.Linear(dim, vocabulary, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        return self.head(self.norm(self.blocks(x)))


class RMSNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def rotate_half(x: Tensor) -> Tensor:
    left, right = x.chunk(2, dim=-1)
    return torch.cat([-right, left], dim=-1)


class LlamaBlock(nn.Module):
    """Grouped-query attention with rotary positions, SwiGLU; `fold`: key heads repeat by expand."""

    def __init__(self, dim: int, heads: int, shared: int, hidden: int, fold: bool) -> None:
        super().__init__()
        self.heads, self.shared, self.size, self.fold = heads, shared, dim // heads, fold
        self.q, self.o = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.k, self.v = (nn.Linear(dim, shared * self.size, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(dim, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, dim, bias=False)
        self.norm1, self.norm2 = RMSNorm(dim), RMSNorm(dim)

    def repeat(self, x: Tensor) -> Tensor:
        times = self.heads // self.shared
        if not self.fold:
            return x.repeat_interleave(times, dim=1)
        b, h, n, d = x.shape
        return x[:, :, None].expand(b, h, times, n, d).reshape(b, h * times, n, d)

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor, causal: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = (f(x).view(b, n, -1, self.size).transpose(1, 2) for f in (self.q, self.k, self.v))
        q, k = (t * cos + rotate_half(t) * sin for t in (q, k))
        scores = q @ self.repeat(k).transpose(2, 3) / math.sqrt(self.size) + causal
        y = F.softmax(scores, dim=-1) @ self.repeat(v)
        return self.o(y.transpose(1, 2).reshape(b, n, d))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, causal: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x), cos, sin, causal)
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """Two blocks under a tied head. The rotary tables are buffers `cos` and `sin`, or computed in the forward pass."""

    frequency: Tensor
    cos: Tensor
    sin: Tensor

    def __init__(self, computed: bool = False, vocabulary: int = 13, length: int = 5, dim: int = 16) -> None:
        super().__init__()
        self.computed, self.length = computed, length
        self.tokens, self.norm = nn.Embedding(vocabulary, dim), RMSNorm(dim)
        self.blocks = nn.ModuleList(LlamaBlock(dim, 4, 2, 10, fold) for fold in (False, True))
        self.register_buffer("frequency", 1.0 / 100.0 ** (torch.arange(0, dim // 4, 2) / (dim // 4)))
        if not computed:
            cos, sin = self.tables()
            del self.frequency
            self.register_buffer("cos", cos)
            self.register_buffer("sin", sin)

    def tables(self) -> tuple[Tensor, Tensor]:
        angle = torch.arange(self.length).float()[:, None] * self.frequency
        angle = torch.cat([angle, angle], dim=-1)
        return angle.cos(), angle.sin()

    def forward(self, ids: Tensor) -> Tensor:
        cos, sin = self.tables() if self.computed else (self.cos, self.sin)
        n = ids.shape[1]
        causal = torch.full((n, n), -1e9).triu(1)
        x = self.tokens(ids)
        for block in self.blocks:
            x = block(x, cos[:n], sin[:n], causal)
        return F.linear(self.norm(x), self.tokens.weight)


class Decoder(nn.Module):
    """Learned queries attend to each other, then to an encoded image: the first attention is over parameters alone."""

    def __init__(self, dim: int = 8, queries: int = 3) -> None:
        super().__init__()
        self.dim, self.encoder = dim, nn.Conv2d(3, dim, 4, 4)
        self.queries = nn.Parameter(torch.zeros(1, queries, dim))
        self.own, self.cross, self.mlp = QKVAttention(dim, 2), QKVAttention(dim, 2), mlp(dim, 14)
        self.head = nn.Linear(dim, 5)

    def norm(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (self.dim,))

    def forward(self, image: Tensor) -> Tensor:
        memory = self.encoder(image).flatten(2).transpose(1, 2)
        x = self.queries.expand(image.shape[0], -1, -1)
        x = self.norm(x + self.own(x))
        x = self.norm(x + self.cross(x, memory))
        return self.head(self.norm(x + self.mlp(x)))
