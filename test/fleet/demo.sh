#!/bin/sh
# A fleet on one machine: a hub, three cards with real agents that read a capture at its pace, rollouts that succeed, one that is taken back, two that halt by themselves
# in their first stage, verdicts in one file. It takes less than two minutes.
#
#	test/fleet/demo.sh BIN
#
# BIN has nepcoc, nepcod and nepcof. Needs go, no root, and leaves nothing.
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
# until COMMAND... holds, or two minutes have passed.
until_holds() {
	n=0
	until "$@" >/dev/null 2>&1; do
		n=$((n + 1))
		[ $n -lt 600 ] || { echo "not within 2 minutes: $*" >&2; tail -n 5 "$dir"/*.log >&2; exit 1; }
		sleep 0.2
	done
}

say 'four versions of a model: two that are well, a third that a stranger signed, and a fourth whose golden vectors do not hold'
cd "$root" && go build -o "$dir/spoil" ./test/fleet/spoil
cd "$dir"
"$bin/nepcoc" key new signer >/dev/null
"$bin/nepcoc" key new stranger >/dev/null
for v in 1 2 3; do
	key=signer
	[ $v != 3 ] || key=stranger
	"$bin/nepcoc" compile "$root/examples/model/demo.onnx" --calib "$bed/calib.pcap" --model-version $v --sign $key.pem --serial $v -o v$v.nepco >/dev/null
done
./spoil v2.nepco signer.pem 4 v4.nepco
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
	start "agent$i" "$bin/nepcod" run --config "card$i/nepcod.yaml" --state "$dir/card$i/state.json" --pcap "$bed/train.pcap" --speed 1 # 194 s
done
start sink "$bin/nepcof" sink --group demo --dir sink
reported() { [ "$("$bin/nepcof" cards --json | grep -c '"digest"')" = 3 ]; }
until_holds reported
"$bin/nepcof" cards

say 'version 1, by an order now: one card, then all'
# Verdicts' latency is not compared (--max-latency): it is that of a machine with other work, which may stand still.
"$bin/nepcof" rollout v1.nepco --group demo --stage 1,all --bake 2s --timeout 3m --max-latency 1e6 --wait
say 'version 2'
"$bin/nepcof" rollout v2.nepco --group demo --stage 1,all --bake 5s --timeout 3m --max-latency 1e6 --drift-halts=false --back back.note --wait

say 'back to version 1, by hand: the signed reason was given with version 2'
"$bin/nepcof" back demo --reason 'to show it'
returned() { "$bin/nepcof" status demo | grep -q '^  rollout .*: returned, '; }
until_holds returned
"$bin/nepcof" status demo | tail -n 1 | tee told
grep -q 'it runs on 3 of 3 cards$' told
say 'version 2, again'
"$bin/nepcof" rollout v2.nepco --group demo --stage 1,all --bake 1s --timeout 3m --max-latency 1e6 --drift-halts=false --wait

# halts BUNDLE WHY: in its first stage of one card, for a reason that names it.
halts() {
	if "$bin/nepcof" rollout "$1" --group demo --stage 1,all --bake 5s --timeout 3m --max-latency 1e6 --wait >told 2>&1; then
		echo 'it should have halted' >&2
		exit 1
	fi
	cat told
	grep -q "halted: card[1-3]: nepcod selftest: .*$2" told
	if grep -q 'stage 2' told; then
		echo 'it passed its first stage' >&2
		exit 1
	fi
	until_holds returned
}
say 'version 3: a stranger signed it, and the first card refuses'
halts v3.nepco 'is not a trusted key'
say 'version 4: rightly signed, but the first card does not compute what it should'
halts v4.nepco 'golden'
"$bin/nepcof" cards

say 'verdicts of all cards, in one file'
sleep 2
for i in 1 2 3; do
	echo "card$i: $(grep -c "\"nepco_card\":\"card$i\"" sink/lines.ndjson) lines"
done
head -n 1 sink/lines.ndjson | cut -c 1-300
