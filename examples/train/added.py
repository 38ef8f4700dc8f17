"""A class added with few flows: what it costs and brings by ways of teaching the head, on the integer engine's features.

    python3 added.py train.npz valid.npz test.npz --bundle encoder.nepco --classes NFS,MQTT,SSH --out added.json

The other classes have --most flows each. Heads: softmax (all flows count alike); balanced (all classes do); hidden (each flow
besides in copies of which spans are hidden); and tuned to the class: of all of these, with an amount added to the new class's
logit, that which gives the class the highest recall on the valid part at a loss of at most one point of accuracy on the others'
flows there, each draw for itself. Figures are of the test part, which chooses nothing.
"""
import argparse
import json
import os
import subprocess
import tempfile

import numpy as np
import torch
from torch.nn import functional as F

import evaluate
import sets

SHIFTS = (0.0, 0.5, 1.0, 2.0, 3.0)


def features(nepcoc, bundle, tokens, mask):
    """What the integer engine says the features are."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "arrays.npz")
        np.savez(path, src=tokens.numpy(), seg=mask.numpy())
        lines = subprocess.run([nepcoc, "run", bundle, path, "--json"], check=True, capture_output=True).stdout.splitlines()
    return torch.tensor(np.array([json.loads(line)["scaled"] for line in lines], np.float32))


def fit(x, y, classes, weight, decay=1e-3, steps=60):
    """Softmax regression on standardised features, each flow with its weight, by L-BFGS: the loss is convex, so that heads
    differ by what they were taught and not by where a descent stopped. Returns a function of features."""
    mu, sd = x.mean(0), x.std(0) + 1e-3
    x = (x - mu) / sd
    w, b = torch.zeros(x.shape[1], classes, requires_grad=True), torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([w, b], max_iter=steps, line_search_fn="strong_wolfe")
    weight = weight / weight.sum()

    def closure():
        optimiser.zero_grad(set_to_none=True)
        loss = (weight * F.cross_entropy(x @ w + b, y, reduction="none")).sum() + decay * w.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return lambda z: (((z - mu) / sd) @ w + b).detach()


def score(logits, label, new):
    """Recall of the class, and accuracy on the flows of the others."""
    got = logits.argmax(1)
    of = label == new
    return (got[of] == new).float().mean().item(), (got[~of] == label[~of]).float().mean().item()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("sets", nargs=3, help="token sets: train, valid, test")
    p.add_argument("--bundle", required=True, help="bundle whose output is features")
    p.add_argument("--nepcoc", default="nepcoc", help="the command")
    p.add_argument("--classes", required=True, help="the classes to add, each alone, to all others")
    p.add_argument("--flows", type=int, default=20)
    p.add_argument("--most", type=int, default=60, help="flows of each other class at most")
    p.add_argument("--copies", type=int, default=4, help="of a flow, with hidden spans")
    p.add_argument("--draws", type=int, default=5)
    p.add_argument("--out", required=True)
    args = p.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    train, valid, test = (sets.Set(s) for s in args.sets)
    classes = len(train.labels)
    for s in (valid, test):
        at = torch.tensor([train.labels.index(n) for n in s.labels] + [-1])
        s.label = at[s.label]
    vx, tx = (features(args.nepcoc, args.bundle, s.tokens, s.mask) for s in (valid, test))
    rows = []
    for name in args.classes.split(","):
        new = train.labels.index(name)
        for seed in range(args.draws):
            torch.manual_seed(1000 + seed)
            pick = evaluate.draw(train.label.numpy(), 0, args.most, seed)
            y = train.label[pick]
            few = (y == new).nonzero().flatten()[: args.flows]
            keep = torch.cat([(y != new).nonzero().flatten(), few])
            few, pick, y = torch.arange(len(keep) - len(few), len(keep)), pick[keep], y[keep]
            tokens, mask = train.tokens[pick], train.mask[pick]
            x = features(args.nepcoc, args.bundle, tokens, mask)
            hidden = torch.cat([tokens] + [sets.spans(tokens, 0.2, 8)[0] for _ in range(args.copies)])
            hx, hy = features(args.nepcoc, args.bundle, hidden, mask.repeat(args.copies + 1, 1)), y.repeat(args.copies + 1)
            others = torch.arange(len(y) - len(few))
            even = lambda y: 1.0 / torch.bincount(y, minlength=classes)[y].float()
            before = fit(x[others], y[others], classes, torch.ones(len(others)))
            none = lambda logits: logits.index_fill(1, torch.tensor([new]), -1e9)  # the class is not known yet
            heads = {"softmax": fit(x, y, classes, torch.ones(len(y))), "balanced": fit(x, y, classes, even(y)),
                     "hidden": fit(hx, hy, classes, torch.ones(len(hy))), "hidden, balanced": fit(hx, hy, classes, even(hy))}
            was, best = score(none(before(vx)), valid.label, new)[1], None
            for head, f in heads.items():
                for shift in SHIFTS:
                    to = lambda z: f(z) + shift * F.one_hot(torch.tensor(new), classes)
                    recall, rest = score(to(vx), valid.label, new)
                    if rest >= was - 0.01 and (best is None or (recall, rest) > best[0]):
                        best = (recall, rest), head, shift
            results = {head: (f, 0.0, head) for head, f in heads.items()}
            if best:
                results["chosen on the valid part"] = heads[best[1]], best[2], best[1]
            for head, (f, shift, of) in results.items():
                recall, after = score(f(tx) + shift * F.one_hot(torch.tensor(new), classes), test.label, new)
                row = {"class": name, "head": head, "seed": seed, "flows": len(few), "test": int((test.label == new).sum()), "valid": int((valid.label == new).sum()),
                       "recall": round(recall, 4), "before": round(score(none(before(tx)), test.label, new)[1], 4), "after": round(after, 4)}
                if head.startswith("chosen"):
                    row.update(of=of, shift=shift)
                rows.append(row)
                print(row, flush=True)
            evaluate.save(rows, args.out)


if __name__ == "__main__":
    main()
