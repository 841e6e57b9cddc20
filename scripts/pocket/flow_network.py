"""The flow-matching transformer as it is trained: diffusers' Lumina 2, its forward pass written for 8x8 latents on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import Lumina2Transformer2DModel
from torch import Tensor, nn

CONFIG = {
    "sample_size": 8,
    "patch_size": 2,
    "in_channels": 8,
    "hidden_size": 256,
    "num_layers": 4,
    "num_refiner_layers": 1,
    "num_attention_heads": 8,
    "num_kv_heads": 8,
    "multiple_of": 32,
    "ffn_dim_multiplier": 0.5,  # of four times the width
    "axes_dim_rope": [8, 12, 12],
    "axes_lens": [64, 32, 32],
    "cap_feat_dim": 192,
}
TIME_SCALE = 1000.0  # what the network is told is this many times 1 - s, as in Z-Image


class FlowNetwork(Lumina2Transformer2DModel):
    """The same modules and the same function as diffusers' own.

    That one puts each row's text and picture together row by row, which costs the backward pass a copy of the whole batch for
    every row, and works its norms out in several passes. Here all rows have texts of one length.
    """

    def __init__(self) -> None:
        super().__init__(**CONFIG)
        for name, module in self.named_modules():
            # every block starts as the identity and the whole as zero (Peebles and Xie, arXiv 2212.09748)
            if name.endswith(("norm1.linear", "norm_out.linear_1", "norm_out.linear_2")):
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, z: Tensor, s: Tensor, context: Tensor) -> Tensor:
        """z_s [b, 8, 8, 8], s [b] from 0 (picture) to 1 (noise), context [b, n, 192] -> eps - x_0 [b, 8, 8, 8]."""
        (b, c, h, w), p, n = z.shape, self.config.patch_size, context.shape[1]
        embed = self.time_caption_embed
        time = embed.timestep_embedder(embed.time_proj((1 - s) * TIME_SCALE))
        norm, linear = embed.caption_embedder
        text = linear(rms(context, norm))
        turns = self.rope_embedder(z[:1], torch.ones(1, n, dtype=torch.long, device=z.device))[3][0]
        rope = turns.real.float()[:, None], turns.imag.float()[:, None]
        own, theirs = tuple(r[n:] for r in rope), tuple(r[:n] for r in rope)
        x = z.reshape(b, c, h // p, p, w // p, p).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        x = self.x_embedder(x)
        for block in self.context_refiner:
            text = through(block, text, theirs, None)
        for block in self.noise_refiner:
            x = through(block, x, own, time)
        x = torch.cat((text, x), 1)
        for block in self.layers:
            x = through(block, x, rope, time)
        out = self.norm_out(x[:, n:], time)
        return -out.view(b, h // p, w // p, p, p, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)


def rms(x: Tensor, norm: nn.Module) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), norm.weight, norm.eps)


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate neighbouring channels of x [b, n, heads, d] by the angles of [n, 1, d / 2]."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def through(block: nn.Module, x: Tensor, rope: tuple[Tensor, ...], time: Tensor | None) -> Tensor:
    """One block of Lumina 2; those that read text alone are not told the time."""
    if time is None:
        x = x + rms(attention(block.attn, rms(x, block.norm1), rope), block.norm2)
        return x + rms(block.feed_forward(rms(x, block.ffn_norm1)), block.ffn_norm2)
    scales = block.norm1.linear(F.silu(time)).unsqueeze(1).chunk(4, -1)
    before, gate, before_wide, gate_wide = 1 + scales[0], scales[1].tanh(), 1 + scales[2], scales[3].tanh()
    x = x + gate * rms(attention(block.attn, rms(x, block.norm1.norm) * before, rope), block.norm2)
    return x + gate_wide * rms(block.feed_forward(rms(x, block.ffn_norm1) * before_wide), block.ffn_norm2)


def attention(attn: nn.Module, x: Tensor, rope: tuple[Tensor, ...]) -> Tensor:
    """Plain attention: on a CPU the fused kernel's backward pass is slow for so few tokens."""
    b, n, _ = x.shape
    q, k, v = (layer(x).view(b, n, attn.heads, -1) for layer in (attn.to_q, attn.to_k, attn.to_v))
    q, k = turn(rms(q, attn.norm_q), *rope).transpose(1, 2), turn(rms(k, attn.norm_k), *rope).transpose(1, 2)
    shares = ((q * attn.scale) @ k.transpose(-1, -2)).softmax(-1)
    return attn.to_out[0]((shares @ v.transpose(1, 2)).transpose(1, 2).reshape(b, n, -1))
