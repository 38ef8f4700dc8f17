"""Writes the models of this folder: one per form in which exporters write a model, small and briefly trained.

    /usr/bin/python3 forms.py [NAME ...]     (Debian: apt-get install python3-torch python3-onnx; make bench-peer fetches ONNX Runtime)

NAME.onnx is the model, NAME.npz has inputs and what ONNX Runtime makes of them (expect.OUTPUT), or of the float model where
the file holds a quantised one. Some are PyTorch's exports, the others are written operator by operator as tf2onnx writes
Keras' and Flax' layers. All are trained on sequences of 48 bytes in which a class has a motif of its own. Seeded, and on
one thread.
"""
import io
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

LENGTH, CLASSES, SAMPLES = 48, 6, 128
HERE = os.path.dirname(os.path.abspath(__file__))
PEER = os.path.join(HERE, "..", "..", "..", "build", "peer", "node_modules")
MOTIFS = np.random.default_rng(9).integers(0, 256, (CLASSES, 5))


def draw(n, seed, padded=False, align=1):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 256, (n, LENGTH)), rng.integers(0, CLASSES, n)
    for i in range(n):
        end = int(rng.integers(20, LENGTH + 1)) if padded else LENGTH
        at = int(rng.integers(0, (end - 5) // align)) * align
        x[i, at:at + 5] = MOTIFS[y[i]]
        x[i, end:] = 256
    return x, y


def train(model, steps=250, rate=0.01, **data):
    torch.manual_seed(1)
    for p in model.parameters():
        if p.dim() > 1:
            nn.init.normal_(p, std=1 / np.sqrt(p[0].numel()) if p.dim() > 2 or p.shape[0] < 200 else 1)
    opt = torch.optim.Adam(model.parameters(), lr=rate)
    model.train()
    for step in range(steps):
        x, y = draw(64, 1000 + step, **data)
        loss = F.cross_entropy(model(torch.tensor(x)), torch.tensor(y))
        opt.zero_grad()
        loss.backward()
        opt.step()
    model.eval()
    x, y = draw(500, 7, **data)
    print("%s: accuracy %.3f" % (type(model).__name__, (model(torch.tensor(x)).argmax(1).numpy() == y).mean()))
    return model


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / np.sqrt(2)))  # Debian's F.gelu does not train


class Plain(nn.Module):
    """Embedding, two convolutions, maximum, linear layer."""

    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(257, 12)
        self.c1, self.c2 = nn.Conv1d(12, 24, 5, padding=2), nn.Conv1d(24, 24, 3, padding=2, dilation=2)
        self.o = nn.Linear(24, CLASSES)

    def embed(self, x):
        return self.e(x)

    def forward(self, x):
        h = self.embed(x).transpose(1, 2)
        h = torch.relu(self.c2(torch.relu(self.c1(h))))
        return self.o(h.max(2).values)


class Padded(Plain):
    """Sequences of bytes that end in 256, which is no byte."""


class FloatIDs(Plain):
    def embed(self, x):
        return self.e(x.float().long() if self.training else x.long())


class OneHot(Plain):
    def embed(self, x):
        return F.one_hot(x, 257).float() @ self.e.weight


class Old(Plain):
    """Clip, Slice and Pad, whose arguments were attributes once."""

    def forward(self, x):
        h = F.pad(self.embed(x).transpose(1, 2), (3, 0))
        h = torch.clamp(self.c1(h)[:, :, 1:-2], -1, 4)
        return self.o(torch.relu(self.c2(h)).max(2).values)


class Norms(nn.Module):
    """BatchNorm wherever it can stand."""

    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(257, 12)
        self.b0, self.b1, self.b2, self.b3 = nn.BatchNorm1d(12), nn.BatchNorm1d(24), nn.BatchNorm1d(24), nn.BatchNorm1d(24)
        self.c1, self.c2 = nn.Conv1d(12, 24, 5, padding=2), nn.Conv1d(24, 24, 3, padding=1)
        self.o = nn.Linear(24, CLASSES)

    def forward(self, x):
        h = self.b0(self.e(x).transpose(1, 2))
        h = self.b1(torch.relu(self.c1(h)))
        h = torch.relu(self.b2(self.c2(h)))
        return self.o(self.b3(h.max(2).values))


class Averages(Plain):
    """AveragePool with partial windows, padding that counts and padding that doesn't."""

    def forward(self, x):
        h = torch.relu(self.c1(self.embed(x).transpose(1, 2)))
        h = F.avg_pool1d(h, 4, 3, 2, ceil_mode=True, count_include_pad=True)
        h = torch.relu(self.c2(h))
        h = F.avg_pool1d(h, 3, 2, 1, ceil_mode=True, count_include_pad=False)
        return self.o(h.max(2).values)


class Functions(Plain):
    """LayerNorms that are exported as functions of the model's own."""

    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(24), nn.LayerNorm(24, eps=1e-3)

    def forward(self, x):
        h = self.n1(torch.relu(self.c1(self.embed(x).transpose(1, 2))).transpose(1, 2))
        return self.o(self.n2(torch.relu(self.c2(h.transpose(1, 2))).max(2).values))


class SpaceToDepth(nn.Module):
    """Four bytes beside each other become one position."""

    def __init__(self):
        super().__init__()
        self.e, self.l = nn.Embedding(257, 12), nn.Linear(48, 32)
        self.c, self.o = nn.Conv1d(32, 48, 3), nn.Linear(48, CLASSES)

    def forward(self, x):
        h = self.e(x).reshape(-1, LENGTH // 4, 48)
        h = gelu(self.l(h)).transpose(1, 2)
        return self.o(torch.relu(self.c(h)).max(2).values)


class Keras(nn.Module):
    """As Keras builds it: Conv1D, LayerNormalization over channels, GELU."""

    def __init__(self):
        super().__init__()
        self.e, self.c = nn.Embedding(257, 12), nn.Conv1d(12, 24, 5)
        self.l, self.o = nn.Linear(24, 24), nn.Linear(24, CLASSES)
        self.n1, self.n2 = nn.LayerNorm(24, eps=1e-3), nn.LayerNorm(24, eps=1e-3)

    def forward(self, x):
        h = gelu(self.c(self.e(x).transpose(1, 2))).transpose(1, 2)
        h = torch.relu(self.l(self.n1(h)))
        return self.o(self.n2(F.max_pool1d(h.transpose(1, 2), 2).max(2).values))


class Flax(nn.Module):
    """As Flax builds it: one-hot, Dense, GELU by tanh, LayerNorm by the mean of squares, softmax."""

    def __init__(self):
        super().__init__()
        self.d, self.c, self.o = nn.Linear(257, 16), nn.Conv1d(16, 24, 5), nn.Linear(24, CLASSES)
        self.n1, self.n2 = nn.LayerNorm(16, eps=1e-6), nn.LayerNorm(24, eps=1e-6)

    def forward(self, x):
        h = self.n1(F.gelu(self.d(F.one_hot(x, 257).float()), approximate="tanh"))
        h = F.gelu(self.c(h.transpose(1, 2)), approximate="tanh").max(2).values
        return self.o(self.n2(h))


def draw_sides(n, seed):
    """Two classes of each motif, told apart by six lengths and six times beside the sequence."""
    x, y = draw(n, seed)
    rng = np.random.default_rng(seed + 1)
    kind = rng.integers(0, 2, n)
    lengths = np.where(kind[:, None] == 0, rng.integers(0, 300, (n, 6)), rng.integers(40, 1460, (n, 6)))
    times = (rng.normal(0, 1, (n, 6)) + np.where(kind == 0, -0.7, 0.7)[:, None]) * [1e-3, 1e-3, 0.1, 0.1, 20, 20]
    return (x, lengths, times.astype(np.float32)), (y % (CLASSES // 2)) * 2 + kind


class Side(Plain):
    """Numbers beside the sequence: scaled, through a layer of their own, joined behind the maximum."""

    def __init__(self):
        super().__init__()
        (_, lengths, times), _ = draw_sides(2000, 77)
        self.register_buffer("mean", torch.tensor(np.r_[lengths.mean(0), times.mean(0)]).float())
        self.register_buffer("std", torch.tensor(np.r_[lengths.std(0), times.std(0)]).float())
        self.s, self.h, self.o = nn.Linear(12, 12), nn.Linear(36, 20), nn.Linear(20, CLASSES)

    def pooled(self, x):
        h = self.embed(x).transpose(1, 2)
        return torch.relu(self.c2(torch.relu(self.c1(h)))).max(2).values

    def forward(self, x, numbers):
        s = torch.relu(self.s((numbers - self.mean) / self.std))
        return self.o(torch.relu(self.h(torch.cat([self.pooled(x), s], 1))))


class Sides(Side):
    """Two inputs beside the sequence, one of integers, one normalised over its numbers; one joins without a layer."""

    def __init__(self):
        super().__init__()
        self.n, self.h = nn.LayerNorm(6), nn.Linear(36, 20)

    def forward(self, x, lengths, times):
        s = (lengths.float() + 1) / 400 - 1
        t = self.n(times / self.std[6:])
        return self.o(torch.relu(self.h(torch.cat([s, self.pooled(x), t], 1))))


def export_sides(model, **inputs):
    f = io.BytesIO()
    names = ["bytes"] + list(inputs)
    torch.onnx.export(model, (torch.zeros(1, LENGTH, dtype=torch.int64),) + tuple(inputs.values()), f, input_names=names, output_names=["logits"],
                      dynamic_axes={n: {0: "batch"} for n in names + ["logits"]}, opset_version=17)
    return onnx.load_from_string(f.getvalue())


def train_sides(model, arrays, steps=400):
    torch.manual_seed(1)
    opt = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(steps):
        (x, *rest), y = draw_sides(64, 1000 + 2 * step)
        loss = F.cross_entropy(model(torch.tensor(x), *arrays(*rest)), torch.tensor(y))
        opt.zero_grad()
        loss.backward()
        opt.step()
    model.eval()
    (x, *rest), y = draw_sides(500, 7)
    print("%s: accuracy %.3f" % (type(model).__name__, (model(torch.tensor(x), *arrays(*rest)).argmax(1).numpy() == y).mean()))
    return model


def write_sides(name, cls, names, arrays):
    torch.manual_seed(1)
    model = train_sides(cls(), arrays)
    (x, *rest), _ = draw_sides(SAMPLES, 3)
    feeds = dict(zip(names, (a.numpy() for a in arrays(*rest))))
    m = export_sides(model, **{n: torch.tensor(a[:1]) for n, a in feeds.items()})
    write(name, m, x=x, **feeds)


def export(model, dtype=torch.int64, **options):
    f = io.BytesIO()
    axes = {"bytes": {0: "batch"}, "logits": {0: "batch"}}
    axes["bytes"].update(options.pop("dynamic", {}))
    options.setdefault("opset_version", 13)
    x = torch.zeros(1, LENGTH, dtype=dtype)
    torch.onnx.export(model, (x,), f, input_names=["bytes"], output_names=["logits"], dynamic_axes=axes, **options)
    return onnx.load_from_string(f.getvalue())


class Writer:
    """A graph, operator by operator."""

    def __init__(self, opset, producer):
        self.opset, self.producer, self.nodes, self.inits, self.n = opset, producer, [], [], 0

    def const(self, value, dtype=np.float32):
        self.n += 1
        self.inits.append(numpy_helper.from_array(np.asarray(value.detach().numpy() if torch.is_tensor(value) else value, dtype=dtype), "const_%d" % self.n))
        return "const_%d" % self.n

    def ints(self, *value):
        return self.const(value, np.int64)

    def op(self, op, *inputs, **attrs):
        self.n += 1
        self.nodes.append(helper.make_node(op, list(inputs), ["%s_%d" % (op, self.n)], name="node_%d" % self.n, **attrs))
        return "%s_%d" % (op, self.n)

    def model(self, output, dtype=TensorProto.INT32, out=TensorProto.FLOAT):
        self.nodes[-1].output[0] = "logits"
        g = helper.make_graph(self.nodes, self.producer, [helper.make_tensor_value_info("bytes", dtype, ["unk__1", LENGTH])],
                              [helper.make_tensor_value_info("logits", out, ["unk__2", CLASSES])], self.inits)
        return helper.make_model(g, producer_name=self.producer, ir_version=8, opset_imports=[helper.make_opsetid("", self.opset)])


def keras(m):
    """As tf2onnx writes Keras: NHWC with transpositions, 2-D convolutions of height 1, dense layers of flat rows."""
    w = Writer(13, "tf2onnx-style")
    x = w.op("Gather", w.const(m.e.weight), "bytes", axis=0)
    x = w.op("Transpose", w.op("Unsqueeze", x, w.ints(-3)), perm=[0, 3, 1, 2])
    x = w.op("Squeeze", w.op("Conv", x, w.const(m.c.weight.unsqueeze(2)), kernel_shape=[1, 5], strides=[1, 1], dilations=[1, 1], group=1), w.ints(2))
    x = w.op("Add", x, w.const(m.c.bias.reshape(1, -1, 1)))
    # GELU: the transposition behind it was pushed into both branches.
    half = w.op("Transpose", w.op("Mul", w.const(0.5), x), perm=[0, 2, 1])
    erf = w.op("Erf", w.op("Transpose", w.op("Mul", x, w.const(0.70710677)), perm=[0, 2, 1]))
    x = w.op("Mul", half, w.op("Add", w.const(1.0), erf))
    # LayerNormalization as tf.nn.batch_normalization of the moments.
    mean = w.op("ReduceMean", x, axes=[2], keepdims=1)
    d = w.op("Sub", x, mean)
    var = w.op("ReduceMean", w.op("Mul", d, d), axes=[2], keepdims=1)
    r = w.op("Reciprocal", w.op("Sqrt", w.op("Add", var, w.const(1e-3))))
    r = w.op("Mul", r, w.const(m.n1.weight))
    x = w.op("Add", w.op("Mul", x, r), w.op("Sub", w.const(m.n1.bias), w.op("Mul", mean, r)))
    # Dense, by tensordot: the shape is computed.
    shape = w.op("Shape", x)
    flat = w.op("Reshape", x, w.ints(-1, 24))
    y = w.op("MatMul", flat, w.const(m.l.weight.T))
    head = w.op("Slice", shape, w.ints(0), w.ints(2), w.ints(0))
    x = w.op("Reshape", y, w.op("Concat", head, w.ints(24), axis=0))
    x = w.op("Relu", w.op("Add", x, w.const(m.l.bias)))
    x = w.op("Transpose", w.op("Unsqueeze", x, w.ints(2)), perm=[0, 3, 1, 2])
    x = w.op("MaxPool", x, kernel_shape=[2, 1], strides=[2, 1])
    x = w.op("Squeeze", w.op("Transpose", x, perm=[0, 2, 3, 1]), w.ints(2))
    x = w.op("ReduceMax", x, axes=[1], keepdims=0)
    # LayerNormalization as FusedBatchNorm with the statistics of the batch.
    x4 = w.op("Reshape", x, w.ints(1, -1, 24, 1))
    n = w.op("Cast", w.op("ReduceProd", w.op("Gather", w.op("Shape", x4), w.ints(0, 2, 3)), keepdims=0), to=TensorProto.FLOAT)
    rows = w.op("Squeeze", w.op("Slice", w.op("Shape", x4), w.ints(1), w.ints(2), w.ints(0)))
    full = w.op("Unsqueeze", rows, w.ints(0))
    ones, zeros = w.op("Expand", w.const([1.0]), full), w.op("Expand", w.const([0.0]), full)
    mean = w.op("ReduceMean", x4, axes=[0, 2, 3], keepdims=1)
    d = w.op("Sub", x4, mean)
    var = w.op("Div", w.op("ReduceSumSquare", d, axes=[0, 2, 3], keepdims=0), n)
    x4 = w.op("BatchNormalization", x4, ones, zeros, w.op("Squeeze", mean, w.ints(0, 2, 3)), var, epsilon=1e-3)
    x = w.op("Mul", w.op("Reshape", x4, w.op("Shape", x)), w.const(m.n2.weight))
    x = w.op("Add", x, w.const(m.n2.bias))
    return w.model(w.op("Add", w.op("MatMul", x, w.const(m.o.weight.T)), w.const(m.o.bias)))


def flax(m):
    """As jax2tf and tf2onnx write Flax."""
    w = Writer(15, "jax2tf-style")

    def norm(x, n, size):
        scale = w.const(1 / size)
        mean = w.op("Mul", w.op("ReduceSum", x, w.ints(-1), keepdims=1), scale)
        square = w.op("Mul", w.op("ReduceSum", w.op("Mul", x, x), w.ints(-1), keepdims=1), scale)
        var = w.op("Max", w.const(0.0), w.op("Sub", square, w.op("Mul", mean, mean)))
        r = w.op("Reciprocal", w.op("Sqrt", w.op("Add", var, w.const(1e-6))))
        return w.op("Add", w.op("Mul", w.op("Sub", x, mean), w.op("Mul", r, w.const(n.weight))), w.const(n.bias))

    def gelu(x):
        cube = w.op("Mul", w.op("Mul", x, x), x)
        inner = w.op("Mul", w.const(0.7978846), w.op("Add", x, w.op("Mul", w.const(0.044715), cube)))
        return w.op("Mul", x, w.op("Mul", w.const(0.5), w.op("Add", w.const(1.0), w.op("Tanh", inner))))

    x = w.op("Expand", w.op("Reshape", "bytes", w.ints(-1, LENGTH, 1)), w.op("Concat", w.op("Slice", w.op("Shape", "bytes"), w.ints(0), w.ints(1)), w.ints(LENGTH, 1), axis=0))
    x = w.op("Cast", w.op("Equal", x, w.const(np.arange(257).reshape(1, 1, 257), np.int32)), to=TensorProto.FLOAT)
    x = w.op("Add", w.op("MatMul", x, w.const(m.d.weight.T)), w.const(m.d.bias.reshape(1, 1, -1)))
    x = norm(gelu(x), m.n1, 16)
    x = w.op("Transpose", w.op("Unsqueeze", x, w.ints(3)), perm=[0, 2, 1, 3])
    x = w.op("Squeeze", w.op("Conv", x, w.const(m.c.weight.unsqueeze(3)), kernel_shape=[5, 1]), w.ints(3))
    x = gelu(w.op("Add", x, w.const(m.c.bias.reshape(1, -1, 1))))
    x = norm(w.op("Squeeze", w.op("GlobalMaxPool", x), w.ints(2)), m.n2, 24)
    x = w.op("Add", w.op("MatMul", x, w.const(m.o.weight.T)), w.const(m.o.bias))
    top = w.op("Max", w.const(-np.inf), w.op("ReduceMax", x, axes=[-1], keepdims=1))
    e = w.op("Exp", w.op("Sub", x, top))
    return w.model(w.op("Div", e, w.op("ReduceSum", e, w.ints(-1), keepdims=1, noop_with_empty_axes=0)))


def half(model):
    """The same model in float16, as model.half() exports it."""
    m = onnx.ModelProto()
    m.CopyFrom(model)
    for t in list(m.graph.initializer):
        if t.data_type == TensorProto.FLOAT:
            t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t).astype(np.float16), t.name))
    m.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    return m


def widened(model):
    """The float model with the weights of a float16 one."""
    m = onnx.ModelProto()
    m.CopyFrom(model)
    for t in list(m.graph.initializer):
        if t.data_type == TensorProto.FLOAT16:
            t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t).astype(np.float32), t.name))
    m.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    return m


def quantised(model, ranges=None):
    """Weights as int8 with DequantizeLinear; with ranges also activations, as onnxruntime's quantize_static writes QDQ."""
    m = onnx.ModelProto()
    m.CopyFrom(model)
    nodes, inits = [], []
    for t in m.graph.initializer:
        a = numpy_helper.to_array(t)
        if a.dtype != np.float32 or a.ndim < 2:
            inits.append(t)
            continue
        scale = np.maximum(np.abs(a).max(axis=tuple(range(1, a.ndim))), 1e-6) / 127 if a.ndim > 2 else np.array(np.abs(a).max() / 127)
        q = np.round(a / scale.reshape([-1] + [1] * (a.ndim - 1)) if scale.ndim else a / scale).astype(np.int8)
        for name, v in ((t.name + "_quantized", q), (t.name + "_scale", scale.astype(np.float32)), (t.name + "_zero_point", np.zeros(scale.shape, np.int8))):
            inits.append(numpy_helper.from_array(v, name))
        nodes.append(helper.make_node("DequantizeLinear", [t.name + "_quantized", t.name + "_scale", t.name + "_zero_point"], [t.name], name=t.name + "_DQ", **({"axis": 0} if scale.ndim else {})))
    for n in m.graph.node:
        nodes.append(n)
        for o in list(n.output):
            if ranges is None or o not in ranges:
                continue
            lo, hi = ranges[o]
            scale = (hi - lo) / 255
            inits += [numpy_helper.from_array(np.float32(scale), o + "_scale"), numpy_helper.from_array(np.uint8(round(-lo / scale)), o + "_zero_point")]
            n.output[list(n.output).index(o)] = o + "_float"
            q = [o + "_scale", o + "_zero_point"]
            nodes += [helper.make_node("QuantizeLinear", [o + "_float"] + q, [o + "_Q"], name=o + "_Q"), helper.make_node("DequantizeLinear", [o + "_Q"] + q, [o], name=o + "_DQ")]
    del m.graph.node[:], m.graph.initializer[:]
    m.graph.node.extend(nodes)
    m.graph.initializer.extend(inits)
    return m


def ranges_of(model, x):
    """Smallest and largest value of each float activation, over x."""
    m = onnx.ModelProto()
    m.CopyFrom(model)
    names = [o for n in m.graph.node if n.op_type in ("Gather", "Conv", "Relu", "ReduceMax", "Gemm", "MatMul", "Add") for o in n.output if o != "logits"]
    m.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names)
    out = runtime(m, x)
    return {n: (min(float(np.min(out[n])), 0.0), max(float(np.max(out[n])), 1e-3)) for n in names}


NODE = """
const ort = require('onnxruntime-node'), fs = require('fs');
(async () => {
  const job = JSON.parse(fs.readFileSync(0)), s = await ort.InferenceSession.create(job.model, {intraOpNumThreads: 1});
  const kinds = {int64: BigInt64Array, int32: Int32Array, float32: Float32Array}, rows = [];
  for (const feeds of job.rows) {
    const row = {};
    for (const [name, x] of Object.entries(feeds)) {
      const t = job.dtypes[name], data = t === 'int64' ? BigInt64Array.from(x, BigInt) : kinds[t].from(x);
      row[name] = new ort.Tensor(t, data, [1, x.length]);
    }
    const out = await s.run(row);
    rows.push(Object.fromEntries(Object.entries(out).map(([k, v]) => [k, Array.from(v.data, Number)])));
  }
  console.log(JSON.stringify(rows));
})();
"""


def runtime(model, x, **beside):
    """ONNX Runtime's outputs, by name."""
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "m.onnx")
        onnx.save(model, path)
        kinds = {TensorProto.INT64: "int64", TensorProto.INT32: "int32", TensorProto.FLOAT: "float32"}
        dtypes = {i.name: kinds[i.type.tensor_type.elem_type] for i in model.graph.input}
        rows = [{"bytes": row.tolist(), **{n: a[i].tolist() for n, a in beside.items()}} for i, row in enumerate(x)]
        job = json.dumps({"model": path, "dtypes": dtypes, "rows": rows})
        env = dict(os.environ, NODE_PATH=os.environ.get("NODE_PATH", PEER))
        rows = json.loads(subprocess.run(["node", "-e", NODE], input=job, env=env, capture_output=True, text=True, check=True).stdout)
    return {k: np.array([r[k] for r in rows], np.float32) for k in rows[0]}


def write(name, model, oracle=None, external=False, x=None, lengths=None, times=None, numbers=None, **data):
    if x is None:
        x, _ = draw(SAMPLES, 3, **data)
    beside = {n: a for n, a in (("lengths", lengths), ("times", times), ("numbers", numbers)) if a is not None}
    expect = runtime(oracle or model, x, **beside)["logits"]
    del model.graph.value_info[:]
    path = os.path.join(HERE, name + ".onnx")
    if external:
        if os.path.exists(path + ".data"):
            os.remove(path + ".data")  # onnx appends
        onnx.save(model, path, save_as_external_data=True, location=name + ".onnx.data", size_threshold=0)
    else:
        onnx.save(model, path)
    np.savez_compressed(os.path.join(HERE, name + ".npz"), bytes=x.astype(np.uint16), **beside, **{"expect.logits": expect})
    print("%s: %d bytes" % (name, os.path.getsize(path)))


def main(wanted):
    torch.set_num_threads(1)
    made = {}

    def trained(cls, **options):
        if cls not in made:
            torch.manual_seed(1)
            made[cls] = train(cls(), **options)
        return made[cls]

    def like(cls):
        m = cls()
        m.load_state_dict(trained(Plain).state_dict())
        return m.eval()

    def qdq():
        m = export(trained(Plain))
        x, _ = draw(64, 5)
        return quantised(m, ranges_of(m, x))

    forms = {
        "external": lambda n: write(n, export(trained(Plain)), external=True),
        "dynamic": lambda n: write(n, export(trained(Plain), dynamic={1: "seq"})),
        "half": lambda n: (lambda h: write(n, h, oracle=widened(h)))(half(export(trained(Plain)))),
        "dequantize": lambda n: write(n, quantised(export(trained(Plain)))),
        "qdq": lambda n: write(n, qdq(), oracle=export(trained(Plain))),
        "float_ids": lambda n: write(n, export(like(FloatIDs), torch.float32)),
        "one_hot": lambda n: write(n, export(like(OneHot))),
        "opset7": lambda n: write(n, export(trained(Old), opset_version=7)),
        "opset10": lambda n: write(n, export(trained(Old), opset_version=10)),
        "padding_id": lambda n: write(n, export(trained(Padded, padded=True), opset_version=16), padded=True),
        "batch_norm": lambda n: write(n, export(trained(Norms), training=torch.onnx.TrainingMode.EVAL, do_constant_folding=False)),
        "average_pool": lambda n: write(n, export(trained(Averages))),
        "functions": lambda n: write(n, export(trained(Functions), opset_version=16, export_modules_as_functions={nn.LayerNorm})),
        "space_to_depth": lambda n: write(n, export(trained(SpaceToDepth, align=4)), align=4),
        "keras": lambda n: write(n, keras(trained(Keras))),
        "side": lambda n: write_sides(n, Side, ["numbers"], lambda l, t: (torch.tensor(np.concatenate([l, t], 1)).float(),)),
        "sides": lambda n: write_sides(n, Sides, ["lengths", "times"], lambda l, t: (torch.tensor(l), torch.tensor(t))),
        "flax": lambda n: write(n, flax(trained(Flax))),
    }
    for name in wanted or forms:
        forms[name](name)


if __name__ == "__main__":
    main(sys.argv[1:])
