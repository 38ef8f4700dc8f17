"""Time per flow of each way of EVALUATION.md, side by side on one core.

    make bench-peer        (once: fetches ONNX Runtime into build/peer, which node runs)
    python3 times.py --sets train.npz test.npz --encoder encoder.pt --bundle encoder.nepco --peer ../../build/peer --out times.json

Networks have the sizes of the tables, and a head of as many classes as the sets; their weights do not matter for the time.
Contenders take turns, so that whatever slows the machine down slows all; of each turn the median counts, and the figures are the
medians of the turns, and of the turns' ratios to the integer engine. All inputs have the contract's full length but for the
engine's second line, neighbour and forest, which see the test flows as they are.

ONNX Runtime times a call itself, from the tokens to the logits, one flow a call, one thread; the engine is timed by nepcoc bench (random
tokens: the worst for its table). Forest (scikit-learn) and neighbour (NumPy) hold all training flows, and are called with one flow
and with a thousand.
"""
import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
import warnings

import numpy as np
import torch

import evaluate
import model
import sets


class Peer:
    """A model in ONNX Runtime in a process of its own (bench/peer/peer.js): one line asked, one line answered."""

    def __init__(self, folder, path, inputs):
        self.process = subprocess.Popen(["node", "peer.js"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.hello = self.ask(json.dumps(dict(model=os.path.abspath(path), tokenInput="src", maskInput="seg", divisor=1, inputs=inputs)))

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def time(self, i):
        return self.ask(f"t {i}") / 1e9

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


class Linear(torch.nn.Module):
    """What nepcoc teach makes, in floating point: one layer on the pooled features."""

    def __init__(self, encoder, classes):
        super().__init__()
        self.features = model.Features(encoder)
        self.head = torch.nn.Linear(encoder.width, classes)

    def forward(self, src, seg):
        return self.head(self.features(src, seg))


def export(net, length, path):
    """A network that takes tokens and mask, as ONNX; the batch is 1, as it is called."""
    net.eval()
    for m in net.modules():
        if isinstance(m, torch.nn.TransformerEncoderLayer):
            # In training mode without dropout it computes the same by operators that ONNX has.
            m.train()
            m.self_attn.dropout = 0.0
            for d in (m.dropout, m.dropout1, m.dropout2):
                d.p = 0.0
    example = (torch.full((1, length), sets.CLS), torch.ones(1, length, dtype=torch.long))
    if not isinstance(net, model.TransformerClassifier):
        torch.onnx.export(net, example, path, opset_version=17, input_names=["src", "seg"], output_names=["logits"])
        return
    torch.onnx.export(net, example, path, opset_version=17, input_names=["src", "seg"], output_names=["logits"], training=torch.onnx.TrainingMode.PRESERVE)


def clock(call, times):
    spent = []
    for i in range(times):
        start = time.perf_counter()
        call(i)
        spent.append(time.perf_counter() - start)
    return float(np.median(spent))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sets", nargs=2, required=True, metavar=("TRAIN", "TEST"))
    p.add_argument("--encoder", required=True)
    p.add_argument("--bundle", required=True, help="bundle of that encoder")
    p.add_argument("--nepcoc", default="nepcoc", help="the command")
    p.add_argument("--peer", help="folder that make bench-peer fetched ONNX Runtime to; without it, that is left out")
    p.add_argument("--core", type=int, default=0, help="the core that everything runs on")
    p.add_argument("--turns", type=int, default=15)
    p.add_argument("--seconds", type=float, default=0.3, help="of the engine in a turn")
    p.add_argument("--trees", type=int, default=200)
    p.add_argument("--out", required=True)
    args = p.parse_args()
    warnings.simplefilter("ignore")  # of the exporter, on shapes
    os.sched_setaffinity(0, {args.core})
    torch.set_num_threads(1)
    torch.manual_seed(0)
    train, test = sets.Set(args.sets[0]), sets.Set(args.sets[1])
    classes, length, vocab = len(train.labels), train.length, train.vocab
    encoder = evaluate.load(args.encoder, "cpu")[1]
    median = int(test.mask.sum(1).median())
    turn, peers, versions = {}, [], dict(torch=torch.__version__, numpy=np.__version__)

    with tempfile.TemporaryDirectory() as folder:
        at = lambda name: os.path.join(folder, name)
        few = evaluate.draw(train.label.numpy(), 0, 20, 0)
        train.take(few).write(at("few.npz"))
        subprocess.run([args.nepcoc, "teach", args.bundle, "--pcap", at("few.npz"), "-o", at("taught.nepco")], check=True, capture_output=True)

        def engine(tokens):
            got = json.loads(subprocess.run([args.nepcoc, "bench", at("taught.nepco"), "--seconds", str(args.seconds), "--length", str(tokens), "--json"], check=True, capture_output=True).stdout)
            versions["engine"] = got["kernel"]
            return got["p50_us"] / 1e6

        turn["engine"] = lambda: engine(length)
        turn["engine, median flow"] = lambda: engine(median)
        if args.peer:
            full = torch.randint(sets.OFFSET, sets.OFFSET + 256, (16, length))
            inputs = [dict(Tokens=t, Valid=length) for t in full.tolist()]
            networks = dict(taught=Linear(encoder, classes), published=model.Classifier(encoder, {"x": classes}), small=model.Classifier(model.Encoder(vocab), {"x": classes}),
                            transformer=model.TransformerClassifier(model.Transformer(vocab, length), classes), cnn=model.Convolutions(vocab, length, classes))
            for name, net in networks.items():
                export(net, length, at(name + ".onnx"))
                peer = Peer(args.peer, at(name + ".onnx"), inputs)
                versions["onnxruntime"] = peer.hello["ort"]
                peers.append(peer)
                turn[name] = lambda peer=peer: float(np.median([peer.time(i % 16) for i in range(12)]))
        known, asked = train.tokens.numpy().astype(np.uint16), test.tokens.numpy().astype(np.uint16)
        thousand = asked[np.arange(1000) % len(asked)]
        label = train.label.numpy()

        def nearest(flows):
            return [label[(known == t).sum(1).argmax()] for t in flows]

        turn["neighbour"] = lambda: clock(lambda i: nearest(asked[i : i + 1]), 12)
        turn["neighbour, 1000 a call"] = lambda: clock(lambda i: nearest(thousand), 1) / 1000
        try:
            import sklearn
            from sklearn.ensemble import RandomForestClassifier
            versions["scikit-learn"] = sklearn.__version__
            forest = RandomForestClassifier(args.trees, random_state=0).fit(known, label)
            turn["forest"] = lambda: clock(lambda i: forest.predict(asked[i : i + 1]), 12)
            turn["forest, 1000 a call"] = lambda: clock(lambda i: forest.predict(thousand), 1) / 1000
        except ImportError:
            print("scikit-learn is not installed: no forest")

        spent = {name: [] for name in turn}
        for k in range(args.turns + 1):
            for name, run in turn.items():
                t = run()
                if k:  # the first turn warms up
                    spent[name].append(t)
        for peer in peers:
            peer.stop()

    rows = []
    for name, t in spent.items():
        ratio = np.array(t) / np.array(spent["engine"])
        low, mid, high = np.percentile(ratio, [25, 50, 75])
        rows.append(dict(name=name, us=round(1e6 * float(np.median(t)), 2), ratio=round(float(mid), 2), low=round(float(low), 2), high=round(float(high), 2)))
        print(f"{name}: {rows[-1]['us']} us, {rows[-1]['ratio']} ({rows[-1]['low']} to {rows[-1]['high']}) times the engine")
    with open("/proc/cpuinfo") as f:
        kind = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), platform.machine())
    with open(args.out, "w") as f:
        json.dump(dict(machine=kind, length=length, median=median, classes=classes, training=len(train), turns=args.turns, versions=versions, rows=rows), f, indent=0)


if __name__ == "__main__":
    main()
