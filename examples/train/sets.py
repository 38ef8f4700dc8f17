"""Token sets as `nepcoc tokens` writes them, and what training does to tokens."""
import copy
import json

import numpy as np
import torch

PAD, SEP, CLS, UNK, MASK = range(5)
OFFSET = 5  # the id of byte 0


class Set:
    """One set, or the shards of one: tokens and mask [n, length], label, group and split [n]."""

    def __init__(self, *paths):
        parts = [np.load(p) for p in paths]
        self.meta = json.loads(str(parts[0]["meta"][0]))
        for p, path in zip(parts, paths):
            if json.loads(str(p["meta"][0]))["contract_hash"] != self.meta["contract_hash"]:
                raise SystemExit(f"{path}: made by another traffic contract than {paths[0]}: make both anew with nepcoc tokens")
        join = lambda name: np.concatenate([p[name] for p in parts])
        self.tokens = torch.from_numpy(join("tokens").astype(np.int64))
        self.mask = torch.from_numpy(join("mask").astype(np.int64))
        self.label = torch.from_numpy(join("label").astype(np.int64))
        self.port = torch.from_numpy(join("port")[:, 1].astype(np.int64) + 65536 * (join("proto") == 17))  # the server's
        self.rows = {name: join(name) for name in parts[0] if name not in ("labels", "groups", "splits", "meta")}
        self.split = self.rows["split"]
        self.lists = {name: parts[0][name] for name in ("groups", "splits", "meta")}
        self.labels = [str(s) for s in parts[0]["labels"]]
        self.splits = [str(s) for s in parts[0]["splits"]]
        self.vocab, self.length = self.meta["vocab"], self.tokens.shape[1]

    def __len__(self):
        return len(self.tokens)

    def to(self, device):
        for name in ("tokens", "mask", "label", "port"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def take(self, at):
        """The flows of some indices, as a set."""
        other = copy.copy(self)
        for name in ("tokens", "mask", "label", "port"):
            setattr(other, name, getattr(self, name)[at])
        other.rows = {name: rows[at.cpu().numpy()] for name, rows in self.rows.items()}
        other.split = other.rows["split"]
        return other

    def write(self, path):
        """Writes the set as nepcoc reads it, with the classes that it has flows of and all flows in one part."""
        used, label = np.unique(self.label.cpu().numpy(), return_inverse=True)
        lists = dict(self.lists, labels=np.array([self.labels[k] for k in used]), splits=np.array(["all"]))
        np.savez(path, **dict(self.rows, label=label.astype(np.int32), split=np.zeros(len(label), np.uint8)), **lists)
        return used

    def part(self, name):
        """Indices of the flows of a part (train, valid, test)."""
        return torch.from_numpy(np.flatnonzero(self.split == self.splits.index(name)))


def spans(tokens, share=0.2, mean=4):
    """Hides spans of byte values, whose lengths are geometric with the given mean. Returns the tokens with the hidden ones
    replaced (8 of 10 by MASK, one by another byte, one left) and where they are [n, length]."""
    n, length = tokens.shape
    begin = torch.rand(n, length, device=tokens.device) < share / mean
    hidden, going = begin.clone(), begin
    for _ in range(4 * mean):  # a span goes on with the same chance at each position
        going = torch.roll(going, 1, 1) & (torch.rand(n, length, device=tokens.device) < 1 - 1 / mean)
        going[:, 0] = False
        hidden |= going
    hidden &= (tokens >= OFFSET) & (tokens < OFFSET + 256)
    how = torch.rand(n, length, device=tokens.device)
    other = torch.randint(OFFSET, OFFSET + 256, tokens.shape, device=tokens.device)
    seen = torch.where(hidden & (how < 0.8), torch.full_like(tokens, MASK), tokens)
    return torch.where(hidden & (how >= 0.9), other, seen), hidden


def near(train, test, share=0.05):
    """Which of the test flows have nearly the tokens of a train flow: of one length, differing in at most the given share."""
    result = torch.zeros(len(test), dtype=torch.bool)
    sizes = train.mask.sum(1).cpu()
    for i in range(len(test)):
        size = int(test.mask[i].sum())
        same = (sizes == size).nonzero().flatten()
        if len(same):
            differ = (train.tokens[same.to(train.tokens.device), :size] != test.tokens[i, :size]).float().mean(1).min()
            result[i] = bool(differ <= share)
    return result
