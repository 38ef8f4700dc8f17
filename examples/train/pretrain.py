"""Pre-trains an encoder on a token set without labels.

    nepcoc tokens corpus.pcap.zst --unlabelled --contract nepco-stream -o corpus.npz
    python3 pretrain.py corpus.npz --out encoder.pt

Three objectives, summed by their weights: --spans, hidden spans of bytes are told (a softmax over the vocabulary, over a
sample of it where that is large); --ports, the server's port, which no token holds, is told from the pooled features;
--pairs, two views of a flow with other bytes hidden find each other among those of a batch (InfoNCE).

Writes the encoder after every epoch, so that --resume goes on where a run was cut off, with the same arguments: each epoch
has its own seed, so that on the CPU, with --epochs, what comes out is what one run would have made.
"""
import argparse
import contextlib
import os
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

import model
import sets

PORTS = 255  # the commonest server ports have a class each, all others one more
SAMPLED = 4096  # vocabularies beyond this are sampled


class Pretrainer(nn.Module):
    def __init__(self, encoder, kind, ports):
        super().__init__()
        self.encoder, self.kind = encoder, kind
        width = encoder.config["hidden"] if kind == "nepco" else encoder.config["width"]
        embed = encoder.config.get("embed", width)
        self.tell = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, embed))
        self.bias = nn.Parameter(torch.zeros(encoder.config["vocab"]))
        pooled = encoder.width if kind == "nepco" else width
        self.port = nn.Linear(pooled, ports)
        self.pair = nn.Sequential(nn.Linear(pooled, 256), nn.ReLU(), nn.Linear(256, 128))

    def values(self, src, seg):
        """Values at each position [batch, position, width], and pooled features."""
        if self.kind == "nepco":
            blocks = self.encoder(src)
            return blocks[-1].transpose(1, 2), torch.cat([pool(x, seg) for x in blocks for pool in (model.largest, model.mean)], 1)
        x = self.encoder(src, seg)
        return x, model.mean(x.transpose(1, 2), seg)

    def span_loss(self, values, hidden, tokens):
        told, want = self.tell(values[hidden]), tokens[hidden]
        table = self.encoder.embed.weight
        if len(self.bias) <= SAMPLED:
            return F.cross_entropy(told @ table.t() + self.bias, want)
        # Sampled softmax: the right id against a uniform sample, which needs no correction by its frequency.
        other = torch.randint(sets.OFFSET, len(self.bias), (SAMPLED,), device=want.device)
        right = (told * table[want]).sum(1, keepdim=True) + self.bias[want, None]
        wrong = (told @ table[other].t() + self.bias[other]).masked_fill(want[:, None] == other, -1e9)
        return F.cross_entropy(torch.cat([right, wrong], 1), torch.zeros_like(want))

    def pair_loss(self, a, b, tokens, temperature=0.1):
        a, b = F.normalize(self.pair(a), dim=1), F.normalize(self.pair(b), dim=1)
        like = a @ b.t() / temperature
        # Flows of the same tokens are no counter-examples.
        key = (tokens * torch.arange(1, tokens.shape[1] + 1, device=tokens.device) ** 2 % 1000003).sum(1)
        like = like.masked_fill((key[:, None] == key) & ~torch.eye(len(key), dtype=torch.bool, device=key.device), -1e9)
        want = torch.arange(len(key), device=key.device)
        return (F.cross_entropy(like, want) + F.cross_entropy(like.t(), want)) / 2


def port_classes(ports):
    """The class of each flow's server port."""
    names, counts = torch.unique(ports, return_counts=True)
    top = names[counts.argsort(descending=True, stable=True)[:PORTS]].sort()[0]
    at = torch.searchsorted(top, ports).clamp(max=len(top) - 1)
    return torch.where(top[at] == ports, at, torch.full_like(at, len(top))), len(top) + 1


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("set", nargs="+", help="token sets (.npz)")
    p.add_argument("--out", required=True, help="file for the encoder")
    p.add_argument("--kind", choices=["nepco", "transformer"], default="nepco")
    p.add_argument("--embed", type=int, default=64)
    p.add_argument("--hidden", type=int, default=128)
    p.add_argument("--layers", type=int, default=5)
    p.add_argument("--spans", type=float, default=1)
    p.add_argument("--ports", type=float, default=0.3)
    p.add_argument("--pairs", type=float, default=0.3)
    p.add_argument("--epochs", type=int, default=20)
    p.add_argument("--seconds", type=float, default=0, help="end after the epoch in which this time is over; the rate falls with time then")
    p.add_argument("--batch", type=int, default=256)
    p.add_argument("--rate", type=float, default=3e-3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--resume", action="store_true", help="go on where --out was left")
    args = p.parse_args()

    torch.manual_seed(args.seed)
    if args.device == "cpu":
        torch.use_deterministic_algorithms(True)
    data = sets.Set(*args.set).to(args.device)
    ports, classes = port_classes(data.port)
    if args.kind == "nepco":
        encoder = model.Encoder(data.vocab, args.embed, args.hidden, args.layers)
    else:
        encoder = model.Transformer(data.vocab, data.length, args.hidden, args.layers)
    net = Pretrainer(encoder, args.kind, classes).to(args.device)
    optimiser = torch.optim.AdamW(net.parameters(), args.rate, weight_decay=0.01)
    begin, spent = 0, 0.0
    if args.resume and os.path.exists(args.out):
        saved = torch.load(args.out, map_location=args.device)
        if saved["contract_hash"] != data.meta["contract_hash"] or saved["kind"] != args.kind or saved["config"] != encoder.config:
            raise SystemExit(f"{args.out}: is of another contract or size of encoder than this run: give the arguments that it was begun with, {' '.join(saved['arguments'])}, or another --out")
        net.load_state_dict(saved["net"])
        optimiser.load_state_dict(saved["optimiser"])
        begin, spent = saved["epoch"], saved["spent"]
        if spent >= args.seconds if args.seconds else begin >= args.epochs:
            print(f"{args.out}: was done already, {begin} epochs, {spent:.0f} s")
            return
    print(f"{len(data)} flows, {classes} classes of ports, {sum(p.numel() for p in encoder.parameters())} weights in the encoder, {args.device}", flush=True)
    values_of = net.values
    if args.device == "cuda":
        torch._dynamo.config.suppress_errors = True
        values_of = torch.compile(net.values)
    half = args.device == "cuda" and args.kind == "transformer"
    start = time.time() - spent
    steps = (len(data) + args.batch - 1) // args.batch
    for epoch in range(begin, 10**9 if args.seconds else args.epochs):
        net.train()
        torch.manual_seed(args.seed * 100003 + epoch)
        generator = torch.Generator().manual_seed(args.seed * 100003 + epoch)
        sums = torch.zeros(3, device=args.device)
        for step, pick in enumerate(torch.randperm(len(data), generator=generator).split(args.batch)):
            done = (time.time() - start) / args.seconds if args.seconds else (epoch + step / steps) / args.epochs
            for g in optimiser.param_groups:  # up for a twentieth, then down to nothing
                g["lr"] = args.rate * min(1, done * 20 + 0.01) * max(0.0, 1 - done)
            if step and len(pick) < args.batch:
                continue  # the rest comes in another epoch
            pick = pick.to(args.device)
            tokens, seg = data.tokens[pick], data.mask[pick]
            seen, hidden = sets.spans(tokens)
            with torch.autocast("cuda", torch.bfloat16) if half else contextlib.nullcontext():
                values, pooled = values_of(seen, seg)
                losses = torch.zeros(3, device=args.device)
                if args.spans:
                    losses[0] = net.span_loss(values, hidden, tokens)
                if args.ports:
                    losses[1] = F.cross_entropy(net.port(pooled), ports[pick], label_smoothing=0.05)
                if args.pairs:
                    losses[2] = net.pair_loss(pooled, values_of(sets.spans(tokens, 0.4, 8)[0], seg)[1], tokens)
            loss = args.spans * losses[0] + args.ports * losses[1] + args.pairs * losses[2]
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            sums += losses.detach() * len(pick)
        spent = time.time() - start
        told = ", ".join(f"{name} {x:.3f}" for name, x in zip(("spans", "ports", "pairs"), (sums / len(data)).tolist()))
        if epoch % max(1, args.epochs // 20) == 0 or epoch == args.epochs - 1:
            print(f"epoch {epoch + 1}: {told}, {spent:.0f} s", flush=True)
        net.eval()
        torch.save(dict(kind=args.kind, config=encoder.config, encoder=encoder.state_dict(), net=net.state_dict(), optimiser=optimiser.state_dict(),
                        epoch=epoch + 1, spent=spent, contract=data.meta["contract"], contract_hash=data.meta["contract_hash"], arguments=sys.argv[1:]), args.out + ".part")
        os.replace(args.out + ".part", args.out)
        if args.seconds and spent >= args.seconds:
            break
    print(f"{args.out}: {epoch + 1} epochs, {spent:.0f} s, {told}", flush=True)


if __name__ == "__main__":
    main()
