#!/bin/sh
# Measures on the CPU what docs/EVALUATION.md says of frozen encoders, forests, neighbours, nepcoc teach, and (as far as there is
# time) of networks, and writes its tables. Some hours on one core; what was measured before is kept, and a run that was cut off goes on.
#
#   ./evaluate.sh FOLDER    FOLDER has protocols, iot and vpn .train.npz, .test.npz, .valid.npz (vpn has none), made by
#                           nepcoc tokens --contract nepco-stream, and types.tsv, devices to types
#
# NEPCOC names the command, PEER the folder that make bench-peer fetched ONNX Runtime to.
set -eu
cd "$(dirname "$0")"
sets=$1
foundation=../foundation
nepcoc=${NEPCOC:-nepcoc}
python=${PYTHON:-/usr/bin/python3} # Debian's, which its PyTorch is for
export OMP_NUM_THREADS=1

measure() { # task, flags
  task=$1; shift
  of=$task; [ "$task" != types ] || of=iot
  files="$sets/$of.train.npz $sets/$of.valid.npz $sets/$of.test.npz"
  [ "$task" != vpn ] || files="$sets/vpn.train.npz $sets/vpn.test.npz"
  [ "$task" != types ] || files="--merge $sets/types.tsv $files"
  $python evaluate.py --task "$task" $files --device cpu --steps 400 --encoder $foundation/encoder.pt --name wide \
    --bundle $foundation/encoder.nepco --nepcoc "$nepcoc" --out results.json "$@"
}

for task in protocols iot types vpn; do
  measure $task --ways forest,neighbour,frozen,teach
done
for task in protocols iot types vpn; do
  measure $task --ways time,address
done
measure protocols --ways sides --shares 0.1
measure protocols --ways self --shares 0.1 --draws 1 # minutes a draw

$python added.py "$sets/protocols.train.npz" "$sets/protocols.valid.npz" "$sets/protocols.test.npz" --bundle $foundation/encoder.nepco \
  --nepcoc "$nepcoc" --classes NFS,MQTT,SSH --out added.json
[ -z "${PEER:-}" ] || $python times.py --sets "$sets/protocols.train.npz" "$sets/protocols.test.npz" --encoder $foundation/encoder.pt \
  --bundle $foundation/encoder.nepco --nepcoc "$nepcoc" --peer "$PEER" --out times.json
# Networks: minutes a draw.
for task in vpn types iot protocols; do
  measure $task --ways scratch,tuned --shares 0.1
done
measure iot --ways scratch --shares 0.05
$python tables.py ../../docs/EVALUATION.md
