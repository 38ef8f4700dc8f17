"""Trains the two models of planted_test.go, whose evidence is known: marker.onnx tells classes apart by four bytes that stand anywhere
in the payload, ttl.onnx by the hop limit alone. A third class has neither marker, or any other hop limit: without it a model could
tell two classes apart by what one of them lacks.

    /usr/bin/python3 planted.py        (Debian 12: python3-torch, python3-onnx)

Flows are two UDP datagrams over IPv4 with random payload, as the contract nepco-bytes makes tokens of them. Payload also holds, of
every class's marker, copies with one byte changed: so all four bytes are needed. Seeded, on one thread.
"""
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

LENGTH, OFFSET, PAD, SEP, CLS = 256, 5, 0, 1, 2
MARKERS = [b"\xde\xad\xbe\xef", b"\xca\xfe\xba\xbe"]
TTLS = [64, 128]
rng = np.random.default_rng(1)
torch.manual_seed(1)
torch.set_num_threads(1)


def payload(marker, decoys):
    """Random bytes with decoys of every marker in slots of eight bytes, and the marker, if there is one, in a slot of its own."""
    b = bytearray(rng.integers(1, 256, 64, dtype=np.uint8).tobytes())
    slots = rng.permutation(8)
    for k, slot in enumerate(slots[:decoys]):
        decoy = bytearray(MARKERS[k % 2])
        decoy[rng.integers(4)] = rng.integers(1, 256)
        if bytes(decoy) in MARKERS:
            continue
        at = 8 * slot + rng.integers(5)
        b[at:at + 4] = decoy
    if marker is not None:
        at = 8 * slots[6] + rng.integers(5)
        b[at:at + 4] = marker
    return bytes(b)


def packet(ttl, body):
    """The bytes that enter: addresses, checksums and ports are 0."""
    n = 28 + len(body)
    ident = rng.integers(65536)
    head = bytes([0x45, 0, n >> 8, n & 255, ident >> 8, ident & 255, 0x40, 0, ttl, 17]) + bytes(10)
    return head + bytes(4) + bytes([(n - 20) >> 8, (n - 20) & 255, 0, 0]) + body


def tokens(packets):
    ids = [CLS] + [OFFSET + x for p in packets for x in p][:LENGTH - 1]
    if len(ids) < LENGTH:
        ids.append(SEP)
    return ids + [PAD] * (LENGTH - len(ids)), len(ids)


def flows(n, what, decoys=4):
    src, seg, label = [], [], []
    for _ in range(n):
        k = int(rng.integers(3))
        if what == "marker":
            ttl = [int(rng.integers(1, 256)) for _ in range(2)]
            packets = [packet(ttl[0], payload(MARKERS[k] if k < 2 else None, decoys)), packet(ttl[1], payload(None, decoys))]
        else:
            ttl = TTLS[k] if k < 2 else int(rng.choice([x for x in range(1, 256) if x not in TTLS]))
            packets = [packet(ttl, payload(None, decoys)), packet(ttl, payload(None, decoys))]
        ids, valid = tokens(packets)
        src.append(ids)
        seg.append([1] * valid + [0] * (LENGTH - valid))
        label.append(k)
    return torch.tensor(src), torch.tensor(seg), torch.tensor(label)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(261, 12)
        self.conv = nn.Conv1d(12, 24, 4)
        self.head = nn.Linear(24, 3)

    def forward(self, src, seg):
        x = self.embedding(src).transpose(1, 2)
        x = torch.relu(self.conv(F.pad(x, (1, 2)))).transpose(1, 2)
        x = x.masked_fill(seg.unsqueeze(-1) == 0, -1e4)
        return self.head(x.max(dim=1).values)


for what in sys.argv[1:] or ["marker", "ttl"]:
    net = Net()
    for decoys, steps in (0, 2000), (2, 4000), (4, 6000):  # what is easy first: without decoys two bytes are enough
        optimiser = torch.optim.AdamW(net.parameters(), lr=8e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 8e-3, total_steps=steps)
        data = flows(8000 * (1 + decoys), what, decoys)
        for step in range(steps):
            at = torch.randint(len(data[0]), (64,))
            loss = F.cross_entropy(net(data[0][at], data[1][at]), data[2][at])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if step % 1000 == 999:
                print(what, decoys, step + 1, float(loss), flush=True)
    net.eval()
    src, seg, label = flows(1000, what)
    print(what, "accuracy", float((net(src, seg).argmax(1) == label).float().mean()), flush=True)
    torch.onnx.export(net, (src[:1], seg[:1]), what + ".onnx", opset_version=17, input_names=["src", "seg"], output_names=["logits"],
                      dynamic_axes={"src": {0: "batch"}, "seg": {0: "batch"}})
