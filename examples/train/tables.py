"""Writes the tables of docs/EVALUATION.md from the results of evaluate.py.

    python3 tables.py results.json... > tables.md
"""
import collections
import json
import sys

import numpy as np

NAMES = {
    "frozen": "frozen encoder + softmax", "prototype": "frozen encoder + nearest mean", "random": "random encoder, frozen + softmax", "tuned": "encoder, fine-tuned",
    "scratch": "the same network from scratch", "cnn": "1-D CNN from scratch", "transformer": "byte transformer", "neighbour": "nearest flow by equal tokens", "forest": "random forest on the tokens",
}


def amount(row):
    return f"{row['count']} a class" if row["count"] else f"{100 * row['share']:g} %"


def main():
    rows = [r for path in sys.argv[1:] for r in json.load(open(path))]
    for task in dict.fromkeys(r["task"] for r in rows):
        cells = collections.defaultdict(list)
        for r in rows:
            if r["task"] == task:
                way = NAMES[r["way"]]
                if r["way"] == "transformer":
                    way += ", pre-trained" if r["encoder"] else ", from scratch"
                cells[way, r["encoder"] if r["way"] in ("frozen", "prototype", "tuned") else "", amount(r)].append((r["seed"], r["macro_f1"], r["accuracy"], r.get("fresh_macro_f1")))
        amounts = sorted({k[2] for k in cells}, key=lambda a: ("class" in a, float(a.split()[0])))
        print(f"\n### {task}\n\nMacro-F1 on the test part, mean and standard deviation over draws of labels (in brackets: of test flows without a near double in training).\n")
        print("| way | encoder | " + " | ".join(amounts) + " |\n|---|---|" + "---|" * len(amounts))
        for way, encoder in dict.fromkeys(k[:2] for k in cells):
            line = []
            for a in amounts:
                got = {c[0]: c for c in cells.get((way, encoder, a), [])}.values()
                if not got:
                    line.append("")
                    continue
                f1 = [100 * c[1] for c in got]
                fresh = [100 * c[3] for c in got if c[3] is not None]
                line.append(f"{np.mean(f1):.1f} ± {np.std(f1):.1f} ({np.mean(fresh):.1f})" if len(f1) > 1 else f"{f1[0]:.1f} ({np.mean(fresh):.1f})")
            print(f"| {way} | {encoder} | " + " | ".join(line) + " |")


if __name__ == "__main__":
    main()
