"""Joins results of several runs of evaluate.py; of what two have, the later file's counts.

    python3 join.py results.json other.json... -o results.json
"""
import json
import sys


def main():
    if len(sys.argv) < 4 or sys.argv[-2] != "-o":
        raise SystemExit(__doc__)
    rows = {}
    for path in sys.argv[1:-2]:
        with open(path) as f:
            for r in json.load(f):
                rows[r["task"], r["way"], r["encoder"], r["share"], r["count"], r["seed"]] = r
    with open(sys.argv[-1], "w") as f:
        json.dump(list(rows.values()), f, indent=0)


if __name__ == "__main__":
    main()
