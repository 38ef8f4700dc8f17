"""Exports a pre-trained encoder with its pooled features as the output, which `nepcoc teach` puts heads on.

    python3 export_features.py encoder.pt encoder.onnx
"""
import sys

import torch

import evaluate
import model
import sets


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    saved, encoder = evaluate.load(sys.argv[1], "cpu")
    net = model.Features(encoder).eval()
    length = next(int(line.split(":")[1]) for line in saved["contract"].splitlines() if line.startswith("length:"))
    example = (torch.full((1, length), sets.CLS), torch.ones(1, length, dtype=torch.long))
    names = ["src", "seg", "features"]
    torch.onnx.export(net, example, sys.argv[2], opset_version=17, input_names=names[:2], output_names=names[2:], dynamic_axes={n: {0: "batch"} for n in names})
    print(f"{sys.argv[2]}: {net.width} features of {length} tokens")


if __name__ == "__main__":
    main()
