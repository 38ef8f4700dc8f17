"""Trains a network for one or several tasks, from a pre-trained encoder or from nothing, and exports it to ONNX.

    nepcoc tokens train.pcap --labels train.csv --contract nepco-stream -o train.npz        (the same for valid and test)
    python3 finetune.py --task app train.npz --valid app valid.npz --test app test.npz --out model.onnx
    nepcoc compile model.onnx --contract nepco-stream --calib train.pcap --labels model.labels.txt -o model.nepco

A set that `nepcoc tokens --split` parted holds all parts; --valid and --test are not needed then. Several --task share one
encoder and become several outputs. Writes model.onnx, model.labels.txt (NAME.labels.txt for each of several tasks) and
model.contract.yaml. Seeded; on the CPU it runs on one thread and is deterministic: the same libraries on the same kind of
CPU give the same file.
"""
import argparse
import math
import os
import random
import time

import numpy as np
import torch
from torch.nn import functional as F

import evaluate
import model
import sets


def train(net, tasks, epochs, batch, rate, encoder_rate, state=None):
    """tasks: name -> (set, indices). Each step takes a batch of one task; tasks come as often as they have batches."""
    names = list(tasks)
    batches = {n: math.ceil(len(pick) / batch) for n, (_, pick) in tasks.items()}
    steps = epochs * sum(batches.values())
    learnt = list(net.encoder.parameters())
    new = [p for n, p in net.named_parameters() if not n.startswith("encoder.")]
    optimiser = torch.optim.AdamW([dict(params=learnt, lr=encoder_rate), dict(params=new, lr=rate)], lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [encoder_rate, rate], total_steps=steps, pct_start=0.15)
    start = time.time()
    for epoch in range(1, epochs + 1):
        net.train()
        total, seen = 0.0, 0
        order = []
        for k, n in enumerate(names):
            data, pick = tasks[n]
            order += [(k, n, pick[at]) for at in torch.randperm(len(pick)).split(batch)]
        if len(names) > 1:
            order = [order[i] for i in torch.randperm(len(order)).tolist()]
        for k, n, at in order:
            data = tasks[n][0]
            src, seg = data.tokens[at], data.mask[at]
            # Hide a tenth of the bytes, so that no single one decides.
            hidden = (torch.rand(src.shape, device=src.device) < 0.1) & (src >= sets.OFFSET)
            out = net(src.masked_fill(hidden, sets.MASK), seg)
            loss = F.cross_entropy(out if len(names) == 1 else out[k], data.label[at], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total, seen = total + loss.item() * len(at), seen + len(at)
        print(f"epoch {epoch}/{epochs}: loss {total / seen:.4f}, {time.time() - start:.0f} s", flush=True)


def report(net, k, name, part, data, pick):
    one = sets.Set.__new__(sets.Set)
    one.tokens, one.mask = data.tokens[pick], data.mask[pick]
    class Head(torch.nn.Module):
        def forward(self, src, seg):
            out = net(src, seg)
            return out if torch.is_tensor(out) else out[k]
    head = Head()
    net.eval()
    got, want = evaluate.outputs(head, one).argmax(1), data.label[pick]
    print(f"{name}, {part}: {len(want)} flows, accuracy {(got == want).float().mean():.4f}, macro-F1 {evaluate.macro_f1(got, want, len(data.labels)):.4f}")


def export(net, data, names, path, dynamo):
    net = net.cpu().eval()
    example = (torch.full((1, data.length), sets.CLS), torch.ones(1, data.length, dtype=torch.long))
    outputs = ["logits"] if len(names) == 1 else names
    if dynamo:  # PyTorch 2.6 or later; weights beside the file are fine, too
        batch = {0: torch.export.Dim("batch")}
        torch.onnx.export(net, example, path, dynamo=True, external_data=False, input_names=["src", "seg"], output_names=outputs, dynamic_shapes=(batch, batch))
        return
    torch.onnx.export(net, example, path, opset_version=17, input_names=["src", "seg"], output_names=outputs,
                      dynamic_axes={name: {0: "batch"} for name in ["src", "seg", *outputs]})


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for what in ("task", "valid", "test"):
        p.add_argument("--" + what, nargs=2, action="append", default=[], metavar=("NAME", "SET"))
    p.add_argument("--encoder", help="file that pretrain.py wrote; without it, from random weights")
    p.add_argument("--embed", type=int, default=32)
    p.add_argument("--hidden", type=int, default=64)
    p.add_argument("--layers", type=int, default=5)
    p.add_argument("--epochs", type=int, default=20)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--rate", type=float, default=5e-3)
    p.add_argument("--encoder-rate", type=float, help="default: a fifth of --rate with --encoder, else --rate")
    p.add_argument("--freeze", action="store_true", help="leave the encoder as it is")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--dynamo", action="store_true", help="export with PyTorch's newer exporter (dynamo=True)")
    p.add_argument("--out", required=True, help="model.onnx")
    args = p.parse_args()
    if not args.task:
        p.error("give at least one --task NAME SET")

    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    if args.device == "cpu":
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
    data = {name: sets.Set(path).to(args.device) for name, path in args.task}
    first = next(iter(data.values()))
    parts = {n: {"train": (d, d.part("train")) if "train" in d.splits else (d, torch.arange(len(d)))} for n, d in data.items()}
    for n, d in data.items():
        for part in d.splits:
            if part not in ("all", "train"):
                parts[n][part] = (d, d.part(part))
    for part in ("valid", "test"):
        for n, path in getattr(args, part):
            d = sets.Set(path).to(args.device)
            at = torch.tensor([data[n].labels.index(l) if l in data[n].labels else -1 for l in d.labels] + [-1], device=args.device)
            d.label, d.labels = at[d.label], data[n].labels
            parts[n][part] = (d, torch.arange(len(d)))
    for n, by in parts.items():
        for part, (d, pick) in by.items():
            if d.meta["contract_hash"] != first.meta["contract_hash"]:
                raise SystemExit(f"the {part} set of {n} was made by another traffic contract: make it anew with nepcoc tokens")
            by[part] = (d, pick[(d.label[pick] >= 0).cpu()])
    if args.encoder:
        saved, encoder = evaluate.load(args.encoder, args.device)
        if saved["contract_hash"] != first.meta["contract_hash"]:
            raise SystemExit(f"{args.encoder}: trained on another traffic contract than the sets")
    else:
        encoder = model.Encoder(first.vocab, args.embed, args.hidden, args.layers)
    net = model.Classifier(encoder, {n: len(d.labels) for n, d in data.items()}).to(args.device)
    if args.freeze:
        for q in net.encoder.parameters():
            q.requires_grad = False
    slow = args.encoder_rate or (args.rate / 5 if args.encoder else args.rate)
    train(net, {n: by["train"] for n, by in parts.items()}, args.epochs, args.batch, args.rate, slow)
    for k, (n, by) in enumerate(parts.items()):
        for part, (d, pick) in by.items():
            report(net, k, n, part, d, pick)
    export(net, first, list(data), args.out, args.dynamo)
    base = os.path.splitext(args.out)[0]
    for n, d in data.items():
        with open(f"{base}.labels.txt" if len(data) == 1 else f"{base}.{n}.labels.txt", "w") as f:
            f.writelines(c + "\n" for c in d.labels)
    with open(base + ".contract.yaml", "w") as f:
        f.write(first.meta["contract"])
    print(f"{args.out}: {os.path.getsize(args.out)} bytes, {sum(q.numel() for q in net.parameters())} weights")


if __name__ == "__main__":
    main()
