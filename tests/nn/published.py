"""Newer encoders, written from their papers one document at a time.

Everything is a plain formula over a dict of weights in float64; nothing of FlexBERT is used. The
weights bear the names of FlexBERT's parameters, for want of others.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Weights = dict[str, Tensor]
Activation = Callable[[Tensor], Tensor]
EMBEDDING, HEAD = "encoder.embedding.", "head."


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def layer_norm(x: Tensor, w: Weights, name: str, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    scaled = scaled * w[f"{name}.weight"]
    return scaled + w[f"{name}.bias"] if f"{name}.bias" in w else scaled


def rms_norm(x: Tensor, w: Weights, name: str, eps: float) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * w[f"{name}.weight"]


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def gated(x: Tensor, w: Weights, name: str, activation: Activation) -> Tensor:
    a, b = linear(x, w, f"{name}.up").chunk(2, dim=-1)
    return linear(activation(a) * b, w, f"{name}.down")


def angles(num_tokens: int, pairs: int, theta: float) -> Tensor:
    """Angle of each token and pair ``[T, pairs]``, in float32 and rounded as everyone rounds it."""
    steps = torch.arange(0, 2 * pairs, 2, dtype=torch.float32) / (2 * pairs)
    return torch.arange(num_tokens, dtype=torch.float32)[:, None] * (1.0 / theta**steps)


def turned_halves(x: Tensor, angle: Tensor) -> Tensor:
    """Pairs are dimensions i and i + D/2 of ``[T, D]``."""
    half = x.shape[-1] // 2
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[:, :half], x[:, half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def turned_neighbours(x: Tensor, angle: Tensor) -> Tensor:
    """Pairs are dimensions 2i and 2i + 1 of ``[T, D]``: complex numbers times a unit one."""
    unit = torch.complex(angle.cos().to(x.dtype), angle.sin().to(x.dtype))
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * unit).flatten(1)


def attention(
    x: Tensor,
    w: Weights,
    name: str,
    num_heads: int,
    num_kv_heads: int,
    turn: Callable[[Tensor], Tensor] = lambda x: x,
    bias: Callable[[int], Tensor | float] = lambda head: 0.0,
) -> Tensor:
    """Head by head; query head h reads key head ``h // (num_heads / num_kv_heads)``."""
    mixed = linear(x, w, f"{name}.qkv")
    size = mixed.shape[-1] // (num_heads + 2 * num_kv_heads)
    heads = mixed.split(size, dim=-1)
    outs = []
    for head in range(num_heads):
        group = head // (num_heads // num_kv_heads)
        q, k = turn(heads[head]), turn(heads[num_heads + group])
        v = heads[num_heads + num_kv_heads + group]
        scores = q @ k.T / math.sqrt(size) + bias(head)
        outs.append(torch.softmax(scores, dim=-1) @ v)
    return linear(torch.cat(outs, dim=-1), w, f"{name}.out")


def num_layers(w: Weights) -> int:
    return 1 + max(int(name.split(".")[2]) for name in w if name.startswith("encoder.layers."))


def post_norm_layers(
    x: Tensor,
    w: Weights,
    eps: float,
    attend: Callable[[Tensor, str], Tensor],
    activation: Activation,
) -> Tensor:
    for index in range(num_layers(w)):
        name = f"encoder.layers.{index}"
        x = layer_norm(x + attend(x, f"{name}.attention"), w, f"{name}.attention_norm", eps)
        x = layer_norm(x + gated(x, w, f"{name}.mlp", activation), w, f"{name}.mlp_norm", eps)
    return x


def pre_norm_layers(
    x: Tensor, w: Weights, eps: float, attend: Callable[[Tensor, str], Tensor]
) -> Tensor:
    for index in range(num_layers(w)):
        name = f"encoder.layers.{index}"
        x = x + attend(rms_norm(x, w, f"{name}.attention_norm", eps), f"{name}.attention")
        x = x + gated(rms_norm(x, w, f"{name}.mlp_norm", eps), w, f"{name}.mlp", silu)
    return rms_norm(x, w, "encoder.final_norm", eps)


def bert_head(x: Tensor, w: Weights, eps: float, activation: Activation = gelu) -> Tensor:
    x = layer_norm(activation(linear(x, w, f"{HEAD}dense")), w, f"{HEAD}norm", eps)
    logits = x @ w[f"{EMBEDDING}tokens.weight"].T
    return logits + w[f"{HEAD}decoder.bias"] if f"{HEAD}decoder.bias" in w else logits


def mosaicbert(tokens: Tensor, w: Weights, num_heads: int) -> Tensor:
    """ALiBi over distances both ways, GeGLU, post-norm (Portes et al. 2023, arXiv 2312.17482)."""
    positions = torch.arange(len(tokens))
    distance = (positions[:, None] - positions).abs()
    x = w[f"{EMBEDDING}tokens.weight"][tokens] + w[f"{EMBEDDING}token_types.weight"][0]
    x = layer_norm(x, w, f"{EMBEDDING}norm", 1e-12)
    x = post_norm_layers(
        x,
        w,
        1e-12,
        lambda x, name: attention(
            x,
            w,
            name,
            num_heads,
            num_heads,
            bias=lambda head: -(2.0 ** (-8 * (head + 1) / num_heads)) * distance,
        ),
        gelu,
    )
    return bert_head(x, w, 1e-12)


def rotary_post_norm(
    embedded: Tensor, w: Weights, num_heads: int, theta: float, activation: Activation
) -> Tensor:
    """BERT's layers with rotary embeddings in place of absolute ones, and a gated MLP."""
    x = layer_norm(embedded, w, f"{EMBEDDING}norm", 1e-12)
    angle = angles(len(x), x.shape[-1] // num_heads // 2, theta)
    x = post_norm_layers(
        x,
        w,
        1e-12,
        lambda x, name: attention(
            x, w, name, num_heads, num_heads, turn=lambda x: turned_halves(x, angle)
        ),
        activation,
    )
    return bert_head(x, w, 1e-12, activation)


def nomicbert(tokens: Tensor, w: Weights, num_heads: int) -> Tensor:
    """Rotary embeddings of base 1000, SwiGLU, post-norm, no biases in linear layers (Nussbaum et
    al. 2024, arXiv 2402.01613)."""
    x = w[f"{EMBEDDING}tokens.weight"][tokens] + w[f"{EMBEDDING}token_types.weight"][0]
    return rotary_post_norm(x, w, num_heads, 1000.0, silu)


def gte(tokens: Tensor, w: Weights, num_heads: int, theta: float) -> Tensor:
    """Rotary embeddings, GeGLU, post-norm (Zhang et al. 2024, arXiv 2407.19669)."""
    return rotary_post_norm(w[f"{EMBEDDING}tokens.weight"][tokens], w, num_heads, theta, gelu)


def eurobert(tokens: Tensor, w: Weights, num_heads: int, num_kv_heads: int, theta: float) -> Tensor:
    """Llama's block without the causal mask (Boizard et al. 2025, arXiv 2503.05500)."""
    x = w[f"{EMBEDDING}tokens.weight"][tokens]
    angle = angles(len(tokens), x.shape[-1] // num_heads // 2, theta)
    x = pre_norm_layers(
        x,
        w,
        1e-5,
        lambda x, name: attention(
            x, w, name, num_heads, num_kv_heads, turn=lambda x: turned_halves(x, angle)
        ),
    )
    return linear(x, w, f"{HEAD}decoder")


def neobert(tokens: Tensor, w: Weights, num_heads: int) -> Tensor:
    """RMSNorm, SwiGLU, rotary embeddings of neighbouring dimensions, untied decoder (Le Breton et
    al. 2025, arXiv 2502.19587)."""
    x = w[f"{EMBEDDING}tokens.weight"][tokens]
    angle = angles(len(tokens), x.shape[-1] // num_heads // 2, 10_000.0)
    x = pre_norm_layers(
        x,
        w,
        1e-5,
        lambda x, name: attention(
            x, w, name, num_heads, num_heads, turn=lambda x: turned_neighbours(x, angle)
        ),
    )
    return linear(x, w, f"{HEAD}decoder")


def windowed(
    tokens: Tensor,
    w: Weights,
    num_heads: int,
    num_kv_heads: int,
    layers: list[tuple[int | None, float]],
) -> Tensor:
    """EuroBERT's layers, each with a window of its own, or None, and a rotary base of its own."""
    x = w[f"{EMBEDDING}tokens.weight"][tokens]
    positions = torch.arange(len(tokens))
    distance = (positions[:, None] - positions).abs()

    def attend(x: Tensor, name: str) -> Tensor:
        window, theta = layers[int(name.split(".")[2])]
        angle = angles(len(tokens), x.shape[-1] // num_heads // 2, theta)
        hidden = torch.zeros(len(tokens), len(tokens), dtype=x.dtype)
        if window is not None:
            hidden[distance > window // 2] = -torch.inf
        turn: Callable[[Tensor], Tensor] = lambda x: turned_halves(x, angle)  # noqa: E731
        return attention(x, w, name, num_heads, num_kv_heads, turn, lambda head: hidden)

    return linear(pre_norm_layers(x, w, 1e-5, attend), w, f"{HEAD}decoder")


def crammingbert(tokens: Tensor, w: Weights, num_heads: int) -> Tensor:
    """Pre-norm, GeGLU, sinusoids times a learned scale, no biases but those of norms, no head
    (Geiping and Goldstein 2022, arXiv 2212.14034)."""
    x = w[f"{EMBEDDING}tokens.weight"][tokens]
    angle = angles(len(tokens), x.shape[-1] // 2, 10_000.0)
    sinusoids = torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1).to(x.dtype)
    x = layer_norm(x + w[f"{EMBEDDING}positions.scale"] * sinusoids, w, f"{EMBEDDING}norm", 1e-12)
    for index in range(num_layers(w)):
        name = f"encoder.layers.{index}"
        normed = layer_norm(x, w, f"{name}.attention_norm", 1e-12)
        x = x + attention(normed, w, f"{name}.attention", num_heads, num_heads)
        x = x + gated(layer_norm(x, w, f"{name}.mlp_norm", 1e-12), w, f"{name}.mlp", gelu)
    return layer_norm(x, w, "encoder.final_norm", 1e-12) @ w[f"{EMBEDDING}tokens.weight"].T
