// A model in ONNX Runtime, driven over stdin: the first line is the setup (see
// node.go), then "t I" runs input I and answers with nanoseconds, "v I" with
// the index of the largest element of the first output.
'use strict';

// The package's run() only defers to this object's by a turn of the event
// loop; calling it directly leaves that out of the times.
const { Tensor } = require('onnxruntime-common');
const { binding, initOrt } = require('onnxruntime-node/dist/binding.js');
const version = require('onnxruntime-node/package.json').version;
const readline = require('node:readline');

const arrays = { 1: Float32Array, 2: Uint8Array, 3: Int8Array, 6: Int32Array, 7: BigInt64Array };
const names = { 1: 'float32', 2: 'uint8', 3: 'int8', 6: 'int32', 7: 'int64' };

let session;
let feeds = [];
let fetches = {};

function tensor(meta, numbers) {
  const array = arrays[meta.type];
  if (!array) throw new Error(`input ${meta.name} has ONNX type ${meta.type}`);
  const data = array === BigInt64Array ? BigInt64Array.from(numbers, BigInt) : array.from(numbers);
  const dims = meta.shape.map((d) => (d < 0 ? 1 : d));
  return new Tensor(names[meta.type], data, dims);
}

function open(setup) {
  initOrt();
  session = new binding.InferenceSession();
  session.loadModel(setup.model, {
    executionProviders: ['cpu'], graphOptimizationLevel: 'all', executionMode: 'sequential', intraOpNumThreads: 1, interOpNumThreads: 1,
  });
  const meta = Object.fromEntries(session.inputMetadata.map((m) => [m.name, m]));
  for (const input of setup.inputs) {
    const tokens = Array.from(input.Tokens, (t) => t / setup.divisor);
    const feed = { [setup.tokenInput]: tensor(meta[setup.tokenInput], tokens) };
    if (setup.maskInput) {
      feed[setup.maskInput] = tensor(meta[setup.maskInput], tokens.map((_, i) => (i < input.Valid ? 1 : 0)));
    }
    feeds.push(feed);
  }
  for (const m of session.outputMetadata) fetches[m.name] = null;
  return { ort: version, node: process.version, cpus: String(require('node:os').availableParallelism()) };
}

function time(i) {
  const start = process.hrtime.bigint();
  session.run(feeds[i], fetches, {});
  return Number(process.hrtime.bigint() - start);
}

function verdict(i) {
  const out = session.run(feeds[i], fetches, {})[session.outputMetadata[0].name];
  if (out.type === 'int64') return Number(out.data[0]); // the model ends in ArgMax
  return out.data.indexOf(out.data.reduce((a, b) => Math.max(a, b)));
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  let answer;
  if (!session) answer = open(JSON.parse(line));
  else answer = line[0] === 't' ? time(Number(line.slice(2))) : verdict(Number(line.slice(2)));
  process.stdout.write(JSON.stringify(answer) + '\n');
});
