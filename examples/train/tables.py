"""Writes the tables of docs/EVALUATION.md from what evaluate.py, added.py and times.py measured.

    python3 tables.py                      prints them
    python3 tables.py ../../docs/EVALUATION.md      writes them there, in place of all from the line "## Tables" on
"""
import collections
import json
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = {
    "frozen": "frozen encoder + softmax", "prototype": "frozen encoder + nearest mean", "sides": "frozen encoder, pooled for each side, + softmax", "self": "frozen encoder + self-training",
    "teach": "frozen encoder + `nepcoc teach`, integers", "random": "random encoder, frozen + softmax", "tuned": "encoder, fine-tuned", "scratch": "the same network from scratch",
    "cnn": "1-D CNN from scratch", "transformer": "byte transformer", "neighbour": "nearest neighbour on the tokens", "forest": "random forest on the tokens",
    "time": "*capture time alone*", "address": "*client address alone*",
}
TASKS = {"protocols": "protocols: 22 classes", "iot": "iot: 25 devices", "types": "iot: 21 types", "vpn": "vpn: 12 classes. It leaks: a figure here says nothing of a model's worth"}
# Student's t: the 97.5th percentile by degrees of freedom.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
TIMES = {
    "engine": ("frozen encoder + `nepcoc teach`: the integer engine", "teach"), "engine, median flow": ("the same, flows of {median} tokens (the median)", "teach"),
    "taught": ("the same network, fp32, ONNX Runtime", "frozen"), "published": ("encoder of that size with the published head, fp32, ONNX Runtime", "tuned"),
    "small": ("the network of the rows from scratch, fp32, ONNX Runtime", "scratch"), "transformer": ("byte transformer, fp32, ONNX Runtime", "transformer"),
    "cnn": ("1-D CNN, fp32, ONNX Runtime", "cnn"), "neighbour": ("nearest neighbour among {training} flows, NumPy", "neighbour"), "neighbour, 1000 a call": ("the same, 1,000 flows a call", "neighbour"),
    "forest": ("random forest of 200 trees, scikit-learn", "forest"), "forest, 1000 a call": ("the same, 1,000 flows a call", "forest"),
}


def interval(values):
    """Mean, and half of its 95 % interval by Student's t where there are several."""
    v = 100 * np.array(values)
    return v.mean(), T[len(v) - 1] * v.std(ddof=1) / np.sqrt(len(v)) if len(v) > 1 else None


def cell(values):
    if not values:
        return ""
    mean, half = interval(values)
    return f"{mean:.1f}" if half is None else f"{mean:.1f} ± {half:.1f}"


def amount(row):
    return f"{row['count']} a class" if row["count"] else f"{100 * row['share']:g} %"


def collect(rows):
    """(task, way, encoder, amount) -> draw -> row."""
    cells = collections.defaultdict(dict)
    for r in rows:
        cells[r["task"], r["way"], r["encoder"], amount(r)][r["seed"]] = r
    return cells


def title(way, encoder):
    return NAMES[way] + ((", pre-trained" if encoder else ", from scratch") if way == "transformer" else "")


def table_of(task, cells):
    amounts = sorted({k[3] for k in cells if k[0] == task}, key=lambda a: ("class" in a, float(a.split()[0])))
    ways = dict.fromkeys(k[1:3] for k in cells if k[0] == task)


    order = list(NAMES)
    lines = [f"\n### {TASKS.get(task, task)}\n", "| way | encoder | " + " | ".join(f"{a}: accuracy | macro-F1" for a in amounts) + " |", "|---|---|" + "---|---|" * len(amounts)]
    for way, encoder in sorted(ways, key=lambda w: (order.index(w[0]), w[1] != "wide", w[1])):
        line = [title(way, encoder), encoder if way != "transformer" else ""]
        for a in amounts:
            got = list(cells.get((task, way, encoder, a), {}).values())
            fresh = [100 * r["fresh_macro_f1"] for r in got if "fresh_macro_f1" in r]
            line += [cell([r["accuracy"] for r in got]), cell([r["macro_f1"] for r in got]) + (f" ({np.mean(fresh):.1f})" if fresh else "")]
        lines.append("| " + " | ".join(line) + " |")
    return lines


def differences(cells):
    """What a way is above training from scratch, of the same draws of labels."""
    lines = ["\n### Against the same network from scratch, draw by draw\n", "Points of macro-F1 and of accuracy above it, with the 95 % interval of the paired difference.\n",
             "| task | labels | way | encoder | draws | macro-F1 | accuracy |", "|---|---|---|---|---|---|---|"]
    for task in TASKS:
        for a in ("1 %", "5 %", "10 %"):
            base = cells.get((task, "scratch", "", a), {})
            for way in ("frozen", "teach", "sides", "self", "tuned", "transformer", "forest", "neighbour"):
                for encoder in dict.fromkeys(k[2] for k in cells if k[:2] == (task, way)):
                    got = cells.get((task, way, encoder, a), {})
                    both = sorted(set(base) & set(got))
                    if len(both) < 2:
                        continue
                    value = lambda what: cell([got[s][what] - base[s][what] for s in both])
                    lines.append(f"| {task} | {a} | {title(way, encoder)} | {encoder if way != 'transformer' else ''} | {len(both)} | {value('macro_f1')} | {value('accuracy')} |")
    return lines


def times(t, cells):
    lines = ["\n### Time per flow, one core, and what it buys\n",
             f"Machine: {t['machine']}; {t['classes']} classes, inputs of {t['length']} tokens, one flow a call where nothing else is said. Medians of {t['turns']} turns, in which all ways take turns on one core; "
             "the ratio is the median of the turns' ratios, in brackets its quartiles. Accuracy and macro-F1 are those of `protocols` with 10 % and with all of the labels.\n",
             "| way | us per flow | times the engine | 10 %: accuracy | macro-F1 | 100 %: accuracy | macro-F1 |", "|---|---|---|---|---|---|---|"]
    for r in t["rows"]:
        name, way = TIMES[r["name"]]
        encoder = {"teach": "wide", "frozen": "wide", "tuned": "wide"}.get(way, "")
        if way == "transformer":  # the pre-trained, if there is one
            encoder = max((k[2] for k in cells if k[:2] == ("protocols", "transformer")), default="")
        line = [name.format(median=t["median"], training=f"{t['training']:,}"), f"{r['us']:.0f}", f"{r['ratio']:.2f} ({r['low']:.2f} to {r['high']:.2f})"]
        for a in ("10 %", "100 %"):
            got = list(cells.get(("protocols", way, encoder, a), {}).values())
            line += [cell([g[what] for g in got]) for what in ("accuracy", "macro_f1")]
        lines.append("| " + " | ".join(line) + " |")
    lines.append("\nVersions: " + ", ".join(f"{k} {v}" for k, v in t["versions"].items()) + ".")
    return lines


def added(rows):
    lines = ["\n### A class added with 20 flows\n", "Recall of the class, and accuracy on the flows of the other classes before and after, on the test part: means of the draws and 95 % intervals.\n",
             "| class | test flows | head | draws | recall | others before | others after |", "|---|---|---|---|---|---|---|"]
    groups = collections.defaultdict(list)
    for r in rows:
        groups[r["class"], r["head"]].append(r)
    for (name, head), got in groups.items():
        lines.append(f"| {name} | {got[0]['test']} | {head} | {len(got)} | {cell([r['recall'] for r in got])} | {cell([r['before'] for r in got])} | {cell([r['after'] for r in got])} |")
    return lines


def read(name):
    path = os.path.join(HERE, name)
    if not os.path.exists(path):
        return None
    with open(path) as f:
        return json.load(f)


def main():
    cells = collect(read("results.json"))
    lines = ["## Tables", "", "Accuracy and macro-F1 on the test part in per cent: mean over draws of labels and its 95 % interval by Student's t (in brackets: macro-F1 of test flows without a near double in training). "
             "With all labels: of three networks or forests; what has no chance in it was run once. Empty cells were not run."]
    tasks = dict.fromkeys([t for t in TASKS if any(k[0] == t for k in cells)] + [k[0] for k in cells])
    if t := read("times.json"):
        lines += times(t, cells)
    lines += differences(cells)
    for task in tasks:
        lines += table_of(task, cells)
    if rows := read("added.json"):
        lines += added(rows)
    text = "\n".join(lines) + "\n"
    if len(sys.argv) == 1:
        print(text, end="")
        return
    with open(sys.argv[1]) as f:
        before = f.read().split("\n## Tables\n")[0]
    with open(sys.argv[1], "w") as f:
        f.write(before.rstrip("\n") + "\n\n" + text)


if __name__ == "__main__":
    main()
