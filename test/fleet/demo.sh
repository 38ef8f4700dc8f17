#!/bin/sh
# A fleet on one machine: a hub, three cards with real agents that read a capture at its pace, a rollout that succeeds, one that halts by itself, verdicts in one file.
#
#	test/fleet/demo.sh BIN
#
# BIN has nepcoc, nepcod and nepcof. Needs no root, and leaves nothing.
set -eu
: "${FLEET_PORT:=14222}" # and the three after it
bin=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
bed=$root/examples/testbed
dir=$(mktemp -d)
pids=
clean() {
	for p in $pids; do kill "$p" 2>/dev/null || true; done
	wait
	rm -rf "$dir"
}
trap clean EXIT
trap 'exit 1' INT TERM
say() { printf '\n== %s\n' "$*"; }
start() { # LOG COMMAND...
	log=$dir/$1.log
	shift
	"$@" >"$log" 2>&1 &
	pids="$! $pids"
}
# until COMMAND... holds, or half a minute has passed.
until_holds() {
	n=0
	until "$@" >/dev/null 2>&1; do
		n=$((n + 1))
		[ $n -lt 150 ] || { echo "not within 30 s: $*" >&2; tail -n 5 "$dir"/*.log >&2; exit 1; }
		sleep 0.2
	done
}

say 'three versions of a model: two that the cards trust, and a third that a stranger signed'
cd "$dir"
"$bin/nepcoc" key new signer >/dev/null
"$bin/nepcoc" key new stranger >/dev/null
for v in 1 2 3; do
	key=signer
	[ $v != 3 ] || key=stranger
	"$bin/nepcoc" compile "$root/examples/model/demo.onnx" --calib "$bed/calib.pcap" --model-version $v --sign $key.pem --serial $v -o v$v.nepco >/dev/null
done
"$bin/nepcoc" sign v1.nepco --key signer.pem --rollback-from 2 --reason 'demo' -o back.note >/dev/null

say 'a hub with its own NATS server, and a sink'
"$bin/nepcof" init fleet --nats "tls://127.0.0.1:$FLEET_PORT"
export NEPCOF_FLEET=$dir/fleet
start hub "$bin/nepcof" hub --listen "127.0.0.1:$FLEET_PORT" --store hub
until_holds "$bin/nepcof" status

say 'three cards, each with an agent of its own'
for i in 1 2 3; do
	port=$((FLEET_PORT + i))
	mkdir "$dir/card$i"
	cp v1.nepco "card$i/model.nepco"
	cat >"card$i/nepcod.yaml" <<EOS
bundle: $dir/card$i/model.nepco
trusted_keys: [$dir/signer.pub]
state: $dir/card$i/state.json
allow_rollback: $dir/card$i/back.note
output: {to: "unix:$dir/card$i/lines.sock", format: eve}
metrics: {listen: "127.0.0.1:$port"}
watch: 500ms
flows: 4096
EOS
	"$bin/nepcof" enrol "card$i" --group demo -o "card$i/token"
	"$bin/nepcof" card --dir "card$i/fleet" --enrol "card$i/token"
	start "card$i" "$bin/nepcof" card --dir "card$i/fleet" --agent-config "card$i/nepcod.yaml" --socket "$dir/card$i/lines.sock" --nepcod "$bin/nepcod" --report 1s
	until_holds test -S "card$i/lines.sock"
	start "agent$i" "$bin/nepcod" run --config "card$i/nepcod.yaml" --pcap "$bed/train.pcap" --speed 2 # 97 s
done
start sink "$bin/nepcof" sink --group demo --dir sink
reported() { [ "$("$bin/nepcof" cards --json | grep -c '"digest"')" = 3 ]; }
until_holds reported
"$bin/nepcof" cards

say 'version 1, by an order now: one card, then all'
"$bin/nepcof" rollout v1.nepco --group demo --stage 1,all --bake 2s --timeout 30s --wait
say 'version 2'
"$bin/nepcof" rollout v2.nepco --group demo --stage 1,all --bake 5s --timeout 30s --max-latency 100 --drift-halts=false --back back.note --wait

say 'version 3: a stranger signed it, and the first card refuses'
if "$bin/nepcof" rollout v3.nepco --group demo --stage 1,all --bake 5s --timeout 30s --wait; then
	echo 'it should have halted' >&2
	exit 1
fi
"$bin/nepcof" status demo

say 'verdicts of all cards, in one file'
sleep 2
for i in 1 2 3; do
	echo "card$i: $(grep -c "\"nepco_card\":\"card$i\"" sink/lines.ndjson) lines"
done
head -n 1 sink/lines.ndjson | cut -c 1-300
