"""The published architecture as modules: an encoder with gated convolutions, and what stands on it.

Positions run along the last axis inside the encoder: [batch, channel, position].
"""
import sys

import torch
from torch import nn
from torch.nn import functional as F


class Gated(nn.Module):
    """A grouped convolution gives value and gate. Its taps are weights of an average (softmax over a kernel's taps);
    outputs 2c and 2c+1 read channel c, and the first half of the outputs is gated by the second."""

    def __init__(self, hidden, kernel):
        super().__init__()
        self.hidden, self.kernel = hidden, kernel
        self.scores = nn.Parameter(torch.randn(2 * hidden, 1, kernel))
        self.bias = nn.Parameter(torch.zeros(2 * hidden))
        self.frozen = None

    def train(self, mode=True):
        # Outside training the taps are constants, so that an export holds them and not the scores.
        self.frozen = None if mode else torch.softmax(self.scores, -1).detach()
        return super().train(mode)

    def forward(self, x):
        taps = torch.softmax(self.scores, -1) if self.frozen is None else self.frozen
        left = (self.kernel - 1) // 2
        x = F.pad(x, (left, self.kernel - 1 - left))
        if x.is_cuda and self.training:  # the same sum, tap by tap: compiled, it is one kernel, and ten times as fast as a grouped convolution's gradient
            x = x.repeat_interleave(2, 1)
            n = x.shape[2] - self.kernel + 1
            both = sum(x[:, :, k : k + n] * taps[:, :, k] for k in range(self.kernel)) + self.bias[:, None]
        else:
            both = F.conv1d(x, taps, self.bias, groups=self.hidden)
        return both[:, : self.hidden] * torch.sigmoid(both[:, self.hidden :])


class Encoder(nn.Module):
    """Tokens to values [batch, channel, position] after each block; a block ends with a LayerNorm over channels of
    value + half of what went into the block: after every second layer and after the last."""

    def __init__(self, vocab, embed=64, hidden=128, layers=5, kernel=4):
        super().__init__()
        self.config = dict(vocab=vocab, embed=embed, hidden=hidden, layers=layers, kernel=kernel)
        self.embed = nn.Embedding(vocab, embed)
        self.project = nn.Linear(embed, hidden)
        self.layers = nn.ModuleList(Gated(hidden, kernel) for _ in range(layers))
        self.ends = [i for i in range(layers) if i % 2 == 1 or i == layers - 1]
        self.norms = nn.ModuleDict({str(i): nn.LayerNorm(hidden) for i in self.ends})
        self.width = 2 * hidden * len(self.ends)

    def forward(self, src):
        x = self.project(self.embed(src)).transpose(1, 2)
        residual, blocks = x, []
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i in self.ends:
                x = self.norms[str(i)]((x + 0.5 * residual).transpose(1, 2)).transpose(1, 2)
                residual = x
                blocks.append(x)
        return blocks


def largest(x, seg):
    """Maximum over the valid positions [batch, channel], as the published export writes it."""
    mask = seg.unsqueeze(-1).float()
    return torch.max(x.transpose(1, 2) * mask + (mask - 1) * sys.maxsize, dim=1)[0]


def mean(x, seg):
    """Mean over the valid positions [batch, channel]."""
    mask = seg.unsqueeze(-1).float()
    return (x.transpose(1, 2) * mask).sum(1) / mask.sum(1)


class Features(nn.Module):
    """What a head reads: maximum and mean over the valid positions after each block, one after another."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.width = encoder, encoder.width

    def forward(self, src, seg):
        return torch.cat([pool(x, seg) for x in self.encoder(src) for pool in (largest, mean)], 1)


class Classifier(nn.Module):
    """The published model: maximum after the last layer, Linear, tanh, Linear; one such head for each task."""

    def __init__(self, encoder, tasks):
        super().__init__()
        self.encoder = encoder
        hidden = encoder.config["hidden"]
        self.heads = nn.ModuleDict({name: nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, classes)) for name, classes in tasks.items()})

    def forward(self, src, seg):
        best = largest(self.encoder(src)[-1], seg)
        out = [head(best) for head in self.heads.values()]
        return out[0] if len(out) == 1 else tuple(out)


class Convolutions(nn.Module):
    """A 1-D CNN as papers on encrypted traffic use it: two wide convolutions with pooling between, two linear layers."""

    def __init__(self, vocab, length, classes, width=32):
        super().__init__()
        self.length = length
        self.embed = nn.Embedding(vocab, 8)
        self.body = nn.Sequential(nn.Conv1d(8, width, 25, padding=12), nn.ReLU(), nn.MaxPool1d(3), nn.Conv1d(width, 2 * width, 25, padding=12), nn.ReLU(), nn.MaxPool1d(3))
        self.head = nn.Sequential(nn.Linear(2 * width * (length // 3 // 3), 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, classes))

    def forward(self, src, seg):
        return self.head(self.body(self.embed(src).transpose(1, 2) * seg.unsqueeze(1)).flatten(1))


class Transformer(nn.Module):
    """A byte transformer in small: learned positions, layers of self-attention; values [batch, position, width]."""

    def __init__(self, vocab, length, width=128, layers=4, heads=4):
        super().__init__()
        self.config = dict(vocab=vocab, length=length, width=width, layers=layers, heads=heads)
        self.embed, self.position = nn.Embedding(vocab, width), nn.Parameter(0.02 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.1, "gelu", batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width))

    def forward(self, src, seg):
        return self.body(self.embed(src) + self.position[: src.shape[1]], src_key_padding_mask=seg == 0)


class TransformerClassifier(nn.Module):
    def __init__(self, encoder, classes):
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.config["width"], classes)

    def forward(self, src, seg):
        return self.head(mean(self.encoder(src, seg).transpose(1, 2), seg))
