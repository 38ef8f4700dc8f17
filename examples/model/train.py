"""Trains a demonstration model on the testbed's training capture and exports it to ONNX.

    python3 train.py [--view packets|stream] [--epochs N] [--out FOLDER]      (Debian: apt-get install python3-torch python3-onnx)

Writes demo.onnx, or of the stream view stream.onnx, with its labels (in the order of the outputs) and prints accuracy
and macro-F1. The number of
epochs is fixed beforehand and the test capture is only looked at when training is over. Seeded, and on one
thread, so the same libraries give the same model.
"""
import argparse
import math
import os
import random
import subprocess
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import flows

LENGTH, EMBED, HIDDEN = 256, 32, 64
VOCAB = {"packets": 261, "stream": 283}
LAYERS, KERNEL, RESIDUAL_EVERY = 5, 4, 2
MASK = 4


class Layer(nn.Module):
    """One grouped convolution gives value and gate; taps are weights of an average (softmax)."""

    def __init__(self):
        super().__init__()
        self.scores = nn.Parameter(torch.randn(2 * HIDDEN, 1, KERNEL))
        self.bias = nn.Parameter(torch.zeros(2 * HIDDEN))
        self.frozen = None

    def train(self, mode=True):
        # Outside training the taps are constants, so an exported model holds them and not the scores.
        self.frozen = None if mode else torch.softmax(self.scores, -1).detach()
        return super().train(mode)

    def forward(self, x):  # [batch, channel, position]
        taps = torch.softmax(self.scores, -1) if self.frozen is None else self.frozen
        left = (KERNEL - 1) // 2
        both = F.conv1d(F.pad(x, (left, KERNEL - 1 - left)), taps, self.bias, groups=HIDDEN)
        value, gate = both[:, :HIDDEN], both[:, HIDDEN:]
        return value * torch.sigmoid(gate)


class Nepco(nn.Module):
    def __init__(self, labels, vocab):
        super().__init__()
        self.embed = nn.Embedding(vocab, EMBED)
        self.project = nn.Linear(EMBED, HIDDEN)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norms = nn.ModuleDict({str(i): nn.LayerNorm(HIDDEN) for i in range(LAYERS) if self.ends_block(i)})
        self.hidden = nn.Linear(HIDDEN, HIDDEN)
        self.head = nn.Linear(HIDDEN, labels)

    @staticmethod
    def ends_block(i):
        return (i + 1) % RESIDUAL_EVERY == 0 or i == LAYERS - 1

    def forward(self, src, seg):
        x = self.project(self.embed(src)).transpose(1, 2)
        residual = x
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if self.ends_block(i):
                x = self.norms[str(i)]((x + 0.5 * residual).transpose(1, 2)).transpose(1, 2)
                residual = x
        mask = seg.unsqueeze(-1).float()
        best = torch.max(x.transpose(1, 2) * mask + (mask - 1) * sys.maxsize, dim=1)[0]
        return self.head(torch.tanh(self.hidden(best)))


def load(folder, split, view, classes=None):
    """Token ids, mask, class and description of a split's labelled flows."""
    if view == "packets":
        src, seg, names, rows = flows.load(f"{folder}/{split}.pcap", f"{folder}/{split}.csv", 1, LENGTH)
        rows = [f"{r['src']} {r['sport']} -> {r['dst']} {r['dport']}, {r['npkts']} packets" for r in rows]
    else:
        # A stream's tokens are the agent's to make: segments in order, what hosts drop left out.
        here = os.path.dirname(os.path.abspath(__file__))
        args = ["go", "run", "./tokens", "nepco-stream", os.path.abspath(f"{folder}/{split}.pcap"), os.path.abspath(f"{folder}/{split}.csv")]
        lines = [line.split("\t") for line in subprocess.run(args, cwd=here, check=True, capture_output=True, text=True).stdout.splitlines()]
        names, rows = [n for n, _, _ in lines], [r for _, r, _ in lines]
        src, seg = (np.zeros((len(lines), LENGTH), np.int64) for _ in range(2))
        for i, (_, _, tokens) in enumerate(lines):
            ids = [int(t) for t in tokens.split()]
            src[i, : len(ids)], seg[i, : len(ids)] = ids, 1
    classes = classes or sorted(set(names))
    label = torch.tensor([classes.index(n) for n in names])
    return torch.from_numpy(src), torch.from_numpy(seg), label, rows, classes


def predict(model, src, seg):
    model.eval()
    with torch.no_grad():
        return torch.cat([model(a, b).argmax(1) for a, b in zip(src.split(64), seg.split(64))])


def macro_f1(got, want, classes):
    scores = []
    for c in range(classes):
        hit = ((got == c) & (want == c)).sum().item()
        scores.append(2 * hit / max(1, (got == c).sum().item() + (want == c).sum().item()))
    return sum(scores) / classes


def report(model, folder, split, view, classes):
    src, seg, want, rows, _ = load(folder, split, view, classes)
    got = predict(model, src, seg)
    print(f"{split}: {len(want)} flows, accuracy {(got == want).float().mean():.4f}, macro-F1 {macro_f1(got, want, len(classes)):.4f}")
    for i in (got != want).nonzero().flatten().tolist():
        print(f"  wrong: {classes[want[i]]} taken for {classes[got[i]]}: {rows[i]}")


def train(model, src, seg, label, epochs, batch=32):
    steps = epochs * math.ceil(len(src) / batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps, pct_start=0.15)
    start = time.time()
    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        for pick in torch.randperm(len(src)).split(batch):
            # Hide a tenth of the bytes, so that no single one decides.
            hidden = (torch.rand(len(pick), LENGTH) < 0.1) & (src[pick] >= flows.OFFSET)
            loss = F.cross_entropy(model(src[pick].masked_fill(hidden, MASK), seg[pick]), label[pick], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() * len(pick)
        print(f"epoch {epoch}/{epochs}: loss {total / len(src):.4f}, {time.time() - start:.0f} s", flush=True)


def export(model, path):
    model.eval()
    example = (torch.full((1, LENGTH), flows.CLS), torch.ones(1, LENGTH, dtype=torch.long))
    torch.onnx.export(model, example, path, opset_version=17, input_names=["src", "seg"], output_names=["logits"],
                      dynamic_axes={name: {0: "batch"} for name in ("src", "seg", "logits")})


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=f"{here}/../testbed", help="folder of train, calib and test captures")
    parser.add_argument("--out", default=here)
    parser.add_argument("--view", choices=["packets", "stream"], default="packets")
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    name = {"packets": "demo", "stream": "stream"}[args.view]
    src, seg, label, _, classes = load(args.data, "train", args.view)
    model = Nepco(len(classes), VOCAB[args.view])
    train(model, src, seg, label, args.epochs)
    for split in ("train", "calib", "test"):
        report(model, args.data, split, args.view, classes)
    export(model, f"{args.out}/{name}.onnx")
    with open(f"{args.out}/{name}.labels.txt", "w") as f:
        f.writelines(c + "\n" for c in classes)
    print(f"{args.out}/{name}.onnx: {os.path.getsize(args.out + f'/{name}.onnx')} bytes")


if __name__ == "__main__":
    main()
