"""Runs the kit on a few made-up flows: python3 -m unittest test_kit (some seconds).

With NEPCOC set to the command, nepcoc teach is run on them, too.
"""
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import numpy as np
import torch

import evaluate
import export_features
import finetune
import join
import model
import pretrain
import sets
import tables

HERE = os.path.dirname(os.path.abspath(__file__))
BUNDLE = os.path.join(HERE, "..", "foundation", "encoder.nepco")


def make(path, flows, seed, classes=4, labels=None):
    """A token set whose classes differ by the client's first bytes; class c is recorded in hour c, by host c."""
    rng = np.random.default_rng(seed)
    saved = torch.load(os.path.join(HERE, "..", "foundation", "encoder.pt"), map_location="cpu")
    tokens, mask, label = np.zeros((flows, 256), np.uint16), np.zeros((flows, 256), np.uint8), np.arange(flows, dtype=np.int32) % classes
    address = np.zeros((flows, 2, 16), np.uint8)
    address[:, :, 10:12], address[:, :, 12] = 255, 10
    for i, c in enumerate(label):
        client, server = rng.integers(0, 256, 20), rng.integers(0, 256, 10)
        client[:6] = 10 * c + np.arange(6)
        row = [sets.CLS, 262, 263, *(sets.OFFSET + client), evaluate.SERVER, *(sets.OFFSET + server), sets.SEP]
        tokens[i, : len(row)], mask[i, : len(row)] = row, 1
        address[i, 0, 15], address[i, 1, 15] = 1 + c, 100
    n = np.zeros(flows)
    np.savez(path, tokens=tokens, mask=mask, label=label, group=np.arange(flows, dtype=np.int32), split=n.astype(np.uint8), time=(label * 3600 + rng.integers(0, 600, flows)).astype(np.int64) * 10**9,
             proto=np.full(flows, 17, np.uint8), address=address, port=np.full((flows, 2), 1000, np.uint16), packets=np.ones((flows, 2), np.int64), bytes=np.ones((flows, 2), np.int64),
             payload=n.astype(np.uint16), marks=n.astype(np.uint16), labels=np.array(labels or [f"class {c}" for c in range(classes)]), groups=np.array([f"capture {i}" for i in range(flows)]), splits=np.array(["all"]),
             meta=np.array([json.dumps(dict(nepco_set=1, contract=saved["contract"], contract_hash=saved["contract_hash"], vocab=283, tunnels=False, vlans=False))]))


def run(main, *args):
    with mock.patch.object(sys, "argv", ["x", *map(str, args)]), contextlib.redirect_stdout(io.StringIO()) as out:
        main()
    return out.getvalue()


class Kit(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.at = lambda name: os.path.join(self.folder.name, name)
        for seed, (name, flows) in enumerate((("train", 40), ("valid", 12), ("test", 16))):
            make(self.at(name + ".npz"), flows, seed)

    def evaluate(self, *args, parts=("train", "valid", "test"), out="out.json"):
        run(evaluate.main, "--task", "t", *(self.at(p + ".npz") for p in parts), "--device", "cpu", "--out", self.at(out), *args)
        with open(self.at(out)) as f:
            return json.load(f)

    def test_ways(self):
        ways = ["time", "address", "neighbour"]
        with contextlib.suppress(ImportError):
            import sklearn  # noqa: F401
            ways.append("forest")
        rows = self.evaluate("--ways", ",".join(ways), "--shares", "0.5,1", "--draws", "2")
        got = {w: [r["macro_f1"] for r in rows if r["way"] == w] for w in ways}
        self.assertEqual(got["time"], [1, 1, 1])  # each class has an hour, and a host
        self.assertEqual(got["address"], [1, 1, 1])
        self.assertGreater(min(got["neighbour"]), 0.9)
        self.assertEqual([r["flows"] for r in rows if r["way"] == "time"], [20, 20, 40])

    def test_frozen_of_a_small_encoder(self):
        torch.manual_seed(0)
        encoder = model.Encoder(283, embed=8, hidden=8)
        saved = torch.load(os.path.join(HERE, "..", "foundation", "encoder.pt"), map_location="cpu")
        torch.save(dict(saved, config=encoder.config, encoder=encoder.state_dict()), self.at("encoder.pt"))
        args = ("--encoder", self.at("encoder.pt"), "--name", "small", "--ways", "frozen,sides,self,tuned", "--shares", "0.5", "--draws", "1", "--steps", "3")
        first = self.evaluate(*args)
        self.assertEqual([r["way"] for r in first], ["frozen", "sides", "self", "tuned"])
        self.assertGreater(first[0]["accuracy"], 0.4)  # a guess has 0.25
        for a, b in zip(first, self.evaluate(*args, out="again.json")):
            self.assertEqual({**a, "seconds": 0}, {**b, "seconds": 0})

    def test_what_is_there_is_not_measured_again(self):
        first = self.evaluate("--ways", "time", "--shares", "0.5", "--draws", "1")
        first[0]["accuracy"] = 0.123
        with open(self.at("out.json"), "w") as f:
            json.dump(first, f)
        rows = self.evaluate("--ways", "time", "--shares", "0.5", "--draws", "2")
        self.assertEqual([r["seed"] for r in rows], [0, 1])
        self.assertEqual(rows[0]["accuracy"], 0.123)

    def test_two_sets_and_merged_classes(self):
        with open(self.at("types.tsv"), "w") as f:
            f.write("device\ttype\nclass 0\ta\nclass 1\ta\nclass 2\tb\n")
        data = sets.Set(self.at("train.npz"))
        evaluate.merge(data, self.at("types.tsv"))
        self.assertEqual(data.labels, ["a", "b", "class 3"])
        self.assertEqual(data.label[:4].tolist(), [0, 0, 1, 2])
        rest, held = evaluate.hold(data)
        self.assertEqual((len(rest), len(held)), (36, 4))
        self.assertFalse(set(rest.rows["group"]) & set(held.rows["group"]))
        rows = self.evaluate("--merge", self.at("types.tsv"), "--ways", "address", "--shares", "1", parts=("train", "test"))
        self.assertEqual((rows[0]["flows"], rows[0]["accuracy"]), (36, 1))

    def test_pretraining_goes_on(self):
        args = [self.at("train.npz"), "--embed", 8, "--hidden", 8, "--batch", 16, "--epochs", 2, "--device", "cpu", "--out"]
        run(pretrain.main, *args, self.at("whole.pt"))
        replace = os.replace

        def cut_off(a, b):
            replace(a, b)
            raise KeyboardInterrupt

        with mock.patch.object(os, "replace", cut_off), self.assertRaises(KeyboardInterrupt):
            run(pretrain.main, *args, self.at("part.pt"))
        run(pretrain.main, *args, self.at("part.pt"), "--resume")
        whole, part = (torch.load(self.at(name)) for name in ("whole.pt", "part.pt"))
        self.assertEqual((whole["epoch"], part["epoch"]), (2, 2))
        for name, weights in whole["net"].items():
            self.assertTrue(torch.equal(weights, part["net"][name]), name)
        self.assertIn("was done already, 2 epochs", run(pretrain.main, *args, self.at("part.pt"), "--resume"))
        with self.assertRaisesRegex(SystemExit, "another contract or size"):
            run(pretrain.main, *args, self.at("part.pt"), "--resume", "--hidden", 16)

    def test_exports(self):
        run(pretrain.main, self.at("train.npz"), "--embed", 8, "--hidden", 8, "--batch", 16, "--epochs", 1, "--device", "cpu", "--out", self.at("encoder.pt"))
        self.assertIn("48 features of 256 tokens", run(export_features.main, self.at("encoder.pt"), self.at("encoder.onnx")))
        args = ["--encoder", self.at("encoder.pt"), "--epochs", 1, "--device", "cpu", "--out", self.at("model.onnx")]
        run(finetune.main, "--task", "one", self.at("train.npz"), *args)
        run(finetune.main, "--task", "a", self.at("train.npz"), "--task", "b", self.at("valid.npz"), "--test", "a", self.at("test.npz"), *args[:-1], self.at("two.onnx"))
        for name in ("model.labels.txt", "two.a.labels.txt", "two.b.labels.txt"):
            with open(self.at(name)) as f:
                self.assertEqual(f.read().splitlines(), [f"class {c}" for c in range(4)])
        if os.environ.get("NEPCOC"):
            for name in ("model.onnx", "two.onnx", "encoder.onnx"):
                got = subprocess.run([os.environ["NEPCOC"], "check", self.at(name), "--contract", "nepco-stream"], capture_output=True, text=True)
                self.assertEqual(got.returncode, 0, got.stdout + got.stderr)

    def test_sides_of_a_stream(self):
        data = sets.Set(self.at("test.npz"))
        encoder = model.Encoder(283, embed=8, hidden=8).eval()
        x = evaluate.Sides(encoder).eval()(data.tokens, data.mask)
        self.assertEqual(x.shape[1], 2 * encoder.width)
        begin = data.tokens[0].tolist().index(evaluate.SERVER)
        first = encoder(data.tokens[:1])[0][0]
        self.assertTrue(torch.allclose(x[0, 8:16], first[:, :begin].mean(1), atol=1e-6))
        no = torch.where(data.tokens == evaluate.SERVER, torch.tensor(sets.SEP), data.tokens)
        self.assertTrue(torch.isfinite(evaluate.Sides(encoder).eval()(no, data.mask)).all())

    def test_tables(self):
        self.evaluate("--ways", "time,neighbour", "--shares", "0.5,1", "--draws", "3")
        run(join.main, self.at("out.json"), self.at("out.json"), "-o", self.at("joined.json"))
        with open(self.at("joined.json")) as f:
            cells = tables.collect(json.load(f))
        self.assertIn("| 100.0 ± 0.0 |", "\n".join(tables.table_of("vpn", {("vpn", *k[1:]): v for k, v in cells.items()})))
        mean, half = tables.interval([0.1, 0.2, 0.3])
        self.assertAlmostEqual(mean, 20)
        self.assertAlmostEqual(half, 4.303 * 10 / 3**0.5, 3)  # t of two degrees of freedom
        with open(self.at("doc.md"), "w") as f:
            f.write("words\n\n## Tables\n\nold\n")
        run(tables.main, self.at("doc.md"))
        with open(self.at("doc.md")) as f:
            text = f.read()
        self.assertTrue(text.startswith("words\n\n## Tables\n"))
        self.assertNotIn("\nold\n", text)

    @unittest.skipUnless(os.environ.get("NEPCOC"), "NEPCOC names no command")
    def test_teach_and_added(self):
        import added
        rows = self.evaluate("--ways", "teach", "--shares", "0.5", "--draws", "1", "--bundle", BUNDLE, "--nepcoc", os.environ["NEPCOC"])
        self.assertGreater(rows[0]["accuracy"], 0.8)
        run(added.main, *(self.at(p + ".npz") for p in ("train", "valid", "test")), "--bundle", BUNDLE, "--nepcoc", os.environ["NEPCOC"], "--classes", "class 1", "--flows", 3, "--most", 5, "--draws", 1, "--copies", 1, "--out", self.at("added.json"))
        with open(self.at("added.json")) as f:
            got = json.load(f)
        self.assertEqual([r["head"] for r in got], ["softmax", "balanced", "hidden", "hidden, balanced", "chosen on the valid part"])
        self.assertEqual(got[0]["before"], 1)


if __name__ == "__main__":
    unittest.main()
