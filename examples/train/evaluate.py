"""What pre-training brings: tasks x shares of labels x ways of learning, with intervals over draws of labels.

    python3 evaluate.py --task protocols train.npz valid.npz test.npz --encoder encoder.pt --ways frozen,tuned,scratch --out results.json
    python3 evaluate.py --task types --merge types.tsv train.npz valid.npz test.npz --ways forest,neighbour --out results.json

Ways: frozen (softmax regression on an encoder's pooled features), prototype (nearest mean of a class), sides (frozen, pooled for each
side of a stream), self (frozen, and the training flows without labels that it is sure of), tuned (the whole network
from the encoder's weights), scratch (the whole network from random weights), random (frozen, with random weights), cnn,
transformer (from --encoder of that kind, else from random weights), neighbour (nearest flow by equal tokens), forest (a random forest
on token ids; needs scikit-learn), teach (nepcoc teach on --bundle: integers from end to end); and what should tell nothing: time (the
flow of the nearest first packet), address (a flow of the same client address, else the commonest class).

A draw takes the same share of each class, at least one flow. Figures are of the test part: accuracy, macro-F1, and both for the flows that have no near double in the training part. Where a number of steps must be chosen, the valid part chooses;
of a task without one, a tenth of each class's training flows are it. What --out has is not measured again, so that a run that was cut off goes on.
On the CPU it runs on one thread and is deterministic.
"""
import argparse
import collections
import json
import os
import subprocess
import tempfile
import time

import numpy as np
import torch
from torch.nn import functional as F

import model
import sets

SERVER = 264  # the mark of a stream contract of one-byte tokens that the server's bytes follow
BARE = ("scratch", "random", "cnn", "neighbour", "forest", "time", "address")  # without an encoder
SURE = ("frozen", "sides", "self", "prototype", "teach", "neighbour", "time", "address")  # the same labels give the same


def macro_f1(got, want, classes):
    scores = []
    for c in range(classes):
        hit = ((got == c) & (want == c)).sum().item()
        size = (want == c).sum().item()
        if size:  # a class without a test flow says nothing
            scores.append(2 * hit / max(1, (got == c).sum().item() + size))
    return sum(scores) / len(scores)


def draw(label, share, count, seed):
    """Indices of a share of each class, or of a number of flows of each; the same for every way."""
    rng = np.random.default_rng(seed)
    picks = []
    for c in np.unique(label[label >= 0]):
        at = rng.permutation(np.flatnonzero(label == c))
        picks.append(at[: count or max(1, round(share * len(at)))])
    return torch.from_numpy(np.sort(np.concatenate(picks)))


def merge(data, path):
    """Gives classes the names of a table (columns: label, name to have), and one number to those of one name."""
    with open(path) as f:
        name = dict(line.split("\t") for line in f.read().splitlines()[1:])
    names = [name.get(l, l) for l in data.labels]
    data.labels = list(dict.fromkeys(names))
    at = torch.tensor([data.labels.index(n) for n in names] + [-1], device=data.label.device)
    data.label = at[data.label]


def hold(data, share=0.1, seed=0):
    """Parts a set: without a share of each class's flows, and those."""
    out = draw(data.label.cpu().numpy(), share, 0, seed)
    rest = torch.ones(len(data), dtype=torch.bool)
    rest[out] = False
    return data.take(rest.nonzero().flatten()), data.take(out)


def outputs(net, data, batch=512):
    net.eval()
    with torch.no_grad():
        return torch.cat([net(t, m) for t, m in zip(data.tokens.split(batch), data.mask.split(batch))])


def regression(x, y, classes, valid, steps=400):
    """Softmax regression on standardised features, weight decay and number of steps chosen on the valid part."""
    mu, sd = x.mean(0), x.std(0) + 1e-3
    x, (vx, vy) = (x - mu) / sd, ((valid[0] - mu) / sd, valid[1])
    best, kept = -1.0, None
    for decay in (1e-4, 1e-3, 1e-2):
        w = torch.zeros(x.shape[1], classes, device=x.device, requires_grad=True)
        b = torch.zeros(classes, device=x.device, requires_grad=True)
        optimiser = torch.optim.Adam([w, b], 0.02)
        for step in range(steps):
            loss = F.cross_entropy(x @ w + b, y) + decay * w.square().sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            if step % 50 == 49:
                f1 = macro_f1((vx @ w + b).argmax(1), vy, classes)
                if f1 > best:
                    best, kept = f1, (w.detach().clone(), b.detach().clone())
    return lambda z: ((z - mu) / sd) @ kept[0] + kept[1]


def self_training(x, pick, y, classes, valid, rounds=3, bound=0.9):
    """Regression that also learns from the training flows without labels of whose class it is sure; of each round, what the
    valid part prefers is kept."""
    f = kept = regression(x[pick], y, classes, valid)
    best = macro_f1(f(valid[0]).argmax(1), valid[1], classes)
    free = torch.ones(len(x), dtype=torch.bool, device=x.device)
    free[pick] = False
    rest = x[free]
    for _ in range(rounds):
        sure, guess = torch.softmax(f(rest), 1).max(1)
        take = sure > bound
        f = regression(torch.cat([x[pick], rest[take]]), torch.cat([y, guess[take]]), classes, valid)
        f1 = macro_f1(f(valid[0]).argmax(1), valid[1], classes)
        if f1 > best:
            best, kept = f1, f
    return kept


class Sides(model.Features):
    """Maximum and mean over each side's positions, of a stream contract's tokens, in place of those over all."""

    def forward(self, src, seg):
        server = ((src == SERVER).cumsum(1) > 0) & (seg > 0)
        sides = [side.long() for side in ((seg > 0) & ~server, server)]
        pooled = torch.cat([pool(x, side) for x in self.encoder(src) for side in sides for pool in (model.largest, model.mean)], 1)
        return torch.where(pooled > -1e9, pooled, torch.zeros_like(pooled))  # of a side without positions: neither number


def network(net, train, pick, valid, classes, steps, rate, rates=None):
    """Trains a whole network; every 10th of the steps it is looked at on the valid part, and the best kept."""
    device = train.tokens.device
    net = net.to(device)
    groups = rates(net) if rates else [dict(params=list(net.parameters()), scale=1.0)]
    optimiser = torch.optim.AdamW(groups, rate, weight_decay=0.01)
    best, kept = -1.0, None
    order = torch.empty(0, dtype=torch.long)
    for step in range(steps):
        while len(order) < min(64, len(pick)):
            order = torch.cat([order, pick[torch.randperm(len(pick))]])
        at, order = order[:64].to(device), order[64:]
        done = (step + 1) / steps
        for g in optimiser.param_groups:
            g["lr"] = rate * g["scale"] * min(1, 10 * done) * (1 - 0.95 * done)
        net.train()
        tokens = train.tokens[at]
        hidden = (torch.rand(tokens.shape, device=device) < 0.1) & (tokens >= sets.OFFSET)
        loss = F.cross_entropy(net(tokens.masked_fill(hidden, sets.MASK), train.mask[at]), train.label[at], label_smoothing=0.05)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if (step + 1) % max(1, steps // 10) == 0:
            f1 = macro_f1(outputs(net, valid).argmax(1), valid.label, classes)
            if f1 >= best:
                best, kept = f1, {k: v.detach().clone() for k, v in net.state_dict().items()}
    net.load_state_dict(kept)
    return net


def load(path, device):
    saved = torch.load(path, map_location=device)
    kind = model.Encoder if saved["kind"] == "nepco" else model.Transformer
    encoder = kind(**saved["config"])
    encoder.load_state_dict(saved["encoder"])
    return saved, encoder.to(device)


def taught(nepcoc, bundle, train, test):
    """What a bundle says of the test flows that nepcoc teach made of the training flows."""
    with tempfile.TemporaryDirectory() as folder:
        at = lambda name: os.path.join(folder, name)
        used = train.write(at("train.npz"))
        np.savez(at("test.npz"), src=test.tokens.cpu().numpy(), seg=test.mask.cpu().numpy())
        subprocess.run([nepcoc, "teach", bundle, "--pcap", at("train.npz"), "-o", at("taught.nepco")], check=True, capture_output=True)
        lines = subprocess.run([nepcoc, "run", at("taught.nepco"), at("test.npz"), "--json"], check=True, capture_output=True).stdout.splitlines()
    return torch.tensor([used[json.loads(line)["class"]] for line in lines])


def nearest_in_time(train, y, test):
    """The class of the training flow whose first packet is nearest in time."""
    then, now = train.rows["time"], test.rows["time"]
    order = np.argsort(then, kind="stable")
    after = np.searchsorted(then[order], now).clip(1, len(then) - 1) if len(then) > 1 else np.zeros(len(now), int)
    before = (after - 1).clip(0)
    at = np.where(now - then[order[before]] <= then[order[after]] - now, before, after)
    return y[torch.from_numpy(order[at])]


def same_address(train, y, test, classes):
    """The commonest class of the training flows of one client address; of an address that none has, of all."""
    hosts = lambda s: [bytes(a) for a in s.rows["address"][:, 0]]
    count = collections.defaultdict(lambda: np.zeros(classes, int))
    for host, c in zip(hosts(train), y.tolist()):
        count[host][c] += 1
    total = sum(count.values())
    return torch.tensor([int((count[h] if h in count else total).argmax()) for h in hosts(test)])


def save(rows, path):
    with open(path + ".part", "w") as f:
        json.dump(rows, f, indent=0)
    os.replace(path + ".part", path)


def slowly(net):
    """What was learnt before moves at a fifth of the rate of what is new."""
    return [dict(params=list(net.encoder.parameters()), scale=0.2), dict(params=[p for n, p in net.named_parameters() if not n.startswith("encoder.")], scale=1.0)]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--task", required=True, help="name of the task in the results")
    p.add_argument("sets", nargs="+", help="token sets: train, valid, test, or train and test")
    p.add_argument("--merge", help="table of what classes to take together: a line of names of columns, then label, tab, name")
    p.add_argument("--encoder", help="file that pretrain.py wrote")
    p.add_argument("--name", default="", help="name of the encoder in the results")
    p.add_argument("--bundle", help="bundle of that encoder, for teach")
    p.add_argument("--nepcoc", default="nepcoc", help="the command, for teach")
    p.add_argument("--ways", default="frozen,scratch")
    p.add_argument("--shares", default="0.01,0.05,0.1,1")
    p.add_argument("--counts", default="", help="besides shares, numbers of flows of each class")
    p.add_argument("--draws", type=int, default=5)
    p.add_argument("--steps", type=int, default=600)
    p.add_argument("--hidden", type=int, default=128)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--out", required=True)
    args = p.parse_args()
    if not 2 <= len(args.sets) <= 3:
        p.error("want token sets: train, valid, test, or train and test")
    if args.device == "cpu":
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
    parts = [sets.Set(s).to(args.device) for s in args.sets]
    if args.merge:
        for s in parts:
            merge(s, args.merge)
    train, valid, test = parts if len(parts) == 3 else (*hold(parts[0]), parts[1])
    if not train.labels == valid.labels == test.labels:  # a part may lack a class
        for s in (valid, test):
            at = torch.tensor([train.labels.index(n) if n in train.labels else -1 for n in s.labels] + [-1], device=args.device)
            s.label = at[s.label]
    classes = len(train.labels)
    fresh = ~sets.near(train, test)
    label = train.label.cpu().numpy()
    saved = encoder = None
    if args.encoder:
        saved, encoder = load(args.encoder, args.device)
        if saved["contract_hash"] != train.meta["contract_hash"]:
            raise SystemExit(f"{args.encoder}: trained on another traffic contract than {args.sets[0]}")

    def features(encoder, kind=model.Features):
        return [outputs(kind(encoder), s) for s in (train, valid, test)]

    rows, cache = [], {}
    if os.path.exists(args.out):
        with open(args.out) as f:
            rows = json.load(f)
    key = lambda r: tuple(r[k] for k in ("task", "way", "encoder", "share", "count", "seed"))
    measured = {key(r): r for r in rows}
    amounts = [(float(s), 0) for s in args.shares.split(",") if s] + [(0.0, int(c)) for c in args.counts.split(",") if c]
    for way in args.ways.split(","):
        for share, count in amounts:
            last = []
            # Of all labels there is one draw: what differs is the beginning of a network.
            for seed in range(args.draws if share < 1 else 1 if way in SURE else min(3, args.draws)):
                torch.manual_seed(1000 + seed)
                name = "" if way in BARE else args.name
                if (args.task, way, name, share, count, seed) in measured:
                    last.append(measured[args.task, way, name, share, count, seed])
                    continue
                start = time.time()
                pick = draw(label, share, count, seed)
                y = train.label[pick]
                if way in ("frozen", "random", "prototype", "sides", "self"):
                    which = seed if way == "random" else "sides" if way == "sides" else "encoder"
                    if which not in cache:
                        at = model.Encoder(train.vocab, hidden=args.hidden).to(args.device) if way == "random" else encoder
                        cache[which] = features(at, Sides if way == "sides" else model.Features)
                    x, vx, tx = cache[which]
                    if way == "prototype":
                        mu, sd = x.mean(0), x.std(0) + 1e-3
                        unit = lambda z: F.normalize((z - mu) / sd, dim=1)
                        middle = torch.stack([unit(x[pick][y == c]).mean(0) if (y == c).any() else torch.zeros_like(mu) for c in range(classes)])
                        got = (unit(tx) @ F.normalize(middle, dim=1).t()).argmax(1)
                    elif way == "self":
                        got = self_training(x, pick, y, classes, (vx, valid.label))(tx).argmax(1)
                    else:
                        got = regression(x[pick], y, classes, (vx, valid.label))(tx).argmax(1)
                elif way == "neighbour":
                    same = torch.stack([(train.tokens[pick] == t).sum(1) for t in test.tokens])
                    got = y[same.argmax(1)]
                elif way == "time":
                    got = nearest_in_time(train.take(pick), y.cpu(), test)
                elif way == "address":
                    got = same_address(train.take(pick), y.cpu(), test, classes)
                elif way == "teach":
                    got = taught(args.nepcoc, args.bundle, train.take(pick), test)
                elif way == "forest":
                    from sklearn.ensemble import RandomForestClassifier
                    forest = RandomForestClassifier(200, random_state=seed)
                    forest.fit(train.tokens[pick].cpu().numpy(), y.cpu().numpy())
                    got = torch.from_numpy(forest.predict(test.tokens.cpu().numpy())).to(args.device)
                else:
                    steps = args.steps if share < 1 else 3 * args.steps
                    if way == "tuned" or way == "transformer" and encoder is not None:
                        encoder = load(args.encoder, args.device)[1]
                    if way == "cnn":
                        net, rates, rate = model.Convolutions(train.vocab, train.length, classes), None, 1e-3
                    elif way == "transformer":
                        first = encoder if encoder is not None else model.Transformer(train.vocab, train.length)
                        net, rates, rate = model.TransformerClassifier(first, classes), slowly if encoder is not None else None, 5e-4 if encoder is None else 1e-3
                    else:
                        first = encoder if way == "tuned" else model.Encoder(train.vocab, hidden=args.hidden)
                        net, rates, rate = model.Classifier(first, {args.task: classes}), slowly if way == "tuned" else None, 5e-3
                    net = network(net, train, pick, valid, classes, steps, rate, rates)
                    got = outputs(net, test).argmax(1)
                got, want = got.cpu(), test.label.cpu()
                row = dict(task=args.task, way=way, encoder=name, share=share, count=count, seed=seed, flows=len(pick),
                           accuracy=(got == want).float().mean().item(), macro_f1=macro_f1(got, want, classes), seconds=time.time() - start)
                if fresh.any():
                    row.update(fresh=int(fresh.sum()), fresh_accuracy=(got == want)[fresh].float().mean().item(), fresh_macro_f1=macro_f1(got[fresh], want[fresh], classes))
                row = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
                rows.append(row)
                last.append(row)
                save(rows, args.out)
            f1 = [r["macro_f1"] for r in last]
            print(f"{args.task} {way} {args.name} {share or count}: macro-F1 {100 * np.mean(f1):.1f} +- {100 * np.std(f1):.1f}, {sum(r['seconds'] for r in last):.1f} s", flush=True)


if __name__ == "__main__":
    main()
