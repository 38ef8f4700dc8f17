#!/usr/bin/env bash
# Captures labelled flows of real servers and clients that talk over veth pairs between network
# namespaces, and trims them to small files:  sudo ./run.sh [--only LABEL,...] [--splits NAME,...] [OUTDIR]
#
# Each run has namespaces of its own (network, mounts, host name, processes) that end with it, so nothing
# outside is reached, configured or left running, however the script ends.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PATH=$PATH:/usr/sbin:/sbin

# split, seed, requests per label. Training has three runs, so that its servers show several names.
runs="train 1 25
train 4 25
train 5 25
calib 2 9
test 3 19"

if [ -z "${TESTBED_INSIDE:-}" ]; then
	only= wanted=train,calib,test
	while [ $# -gt 0 ]; do
		case $1 in
		--only) only=$2; shift 2 ;;
		--splits) wanted=$2; shift 2 ;;
		-*) echo "run.sh: unknown option $1; usage: run.sh [--only LABEL,...] [--splits NAME,...] [OUTDIR]" >&2; exit 2 ;;
		*) break ;;
		esac
	done
	out=$(realpath -m "${1:-$here}")
	[ "$(id -u)" = 0 ] || { echo "run.sh: namespaces and capturing need root: run it with sudo" >&2; exit 1; }
	missing=()
	while read -r tool package; do
		[ "$tool" = "#" ] || command -v "$tool" >/dev/null || missing+=("$package")
	done <"$here/tools.txt"
	[ ${#missing[@]} = 0 ] || { echo "run.sh: apt-get install --no-install-recommends ${missing[*]}" >&2; exit 1; }
	mkdir -p "$out"
	work=$(mktemp -d); chmod 755 "$work"
	trap 'rm -rf "$work"' EXIT
	(cd "$here" && go build -o "$work/load" ./load && go build -o "$work/trim" ./trim)
	while read -r split seed count; do
		[[ ",$wanted," == *",$split,"* ]] || continue
		unshare --net --uts --mount --pid --fork --kill-child --mount-proc \
			env TESTBED_INSIDE="$work" TMPDIR="$work" timeout -k 5 900 \
			bash "$here/run.sh" "$work/$split.$seed" "$seed" "$count" "$only"
	done <<<"$runs"
	# The second link is written as a trunk port shows it: VLAN 100.
	for split in ${wanted//,/ }; do
		raw=()
		for run in "$work/$split".*.1.pcap; do
			raw+=("$run" "${run%.1.pcap}.2.pcap@100" "${run%.1.pcap}.3.pcap")
		done
		"$work/trim" -ports "$here/ports.txt" -out "$out/$split" -run "testbed-$split" "${raw[@]}"
	done
	exit
fi
work=$TESTBED_INSIDE raw=$1 seed=$2 count=$3 only=$4

# Servers and clients run as root: let them write nowhere but to empty folders of our own. (A daemon
# that is told to use /dev/null as its PID file deletes it, for one.)
mount --bind "$work" "$work"
mount -o remount,bind,ro /
for d in /run /var/spool /var/lib /var/log; do mount -t tmpfs -o mode=755 none "$d"; done
mkdir /run/netns
mkdir "$work/dev"
mount -t tmpfs -o mode=755 none "$work/dev"
for d in "null 3" "zero 5" "full 7" "random 8" "urandom 9"; do
	mknod -m 666 "$work/dev/${d% *}" c 1 "${d#* }"
done
ln -s /proc/self/fd "$work/dev/fd"
ln -s /proc/self/fd/2 "$work/dev/stderr"
mkdir -m 1777 "$work/dev/shm"
mount --move "$work/dev" /dev
rmdir "$work/dev"

# Three client hosts, each with an IP stack of its own kind, one link each to the host of the servers
# (this namespace). Blanking leaves TTL, window and options visible, so they must not mark a protocol:
# every protocol is spoken from every client.
#   1: Linux as it comes   2: TTL 128, no timestamps   3: embedded: MSS is the only TCP option, TTL 255
ip link set lo up
for i in 1 2 3; do
	ip netns add "c$i"
	ip link add "s$i" address "02:00:00:00:0$i:01" type veth peer name eth address "02:00:00:00:0$i:02" netns "c$i"
	# Frames as a wire would carry them, not segments for the NIC to split.
	ethtool -K "s$i" tx off tso off gso off gro off >/dev/null
	ip netns exec "c$i" ethtool -K eth tx off tso off gso off gro off >/dev/null
	ip addr add "10.77.$i.1/24" dev "s$i"
	ip addr add "fd77:$i::1/64" dev "s$i" nodad
	ip link set "s$i" up
	# An address per run: the flows of two runs in one capture can't meet.
	ip -n "c$i" addr add "10.77.$i.1$seed/24" dev eth
	ip -n "c$i" addr add "fd77:$i::1$seed/64" dev eth nodad
	ip -n "c$i" link set lo up
	ip -n "c$i" link set eth up
done
ip netns exec c2 sysctl -qw net.ipv4.tcp_timestamps=0 net.ipv4.ip_default_ttl=128 net.ipv6.conf.eth.hop_limit=128
ip netns exec c3 sysctl -qw net.ipv4.tcp_timestamps=0 net.ipv4.tcp_sack=0 net.ipv4.tcp_window_scaling=0 \
	net.ipv4.ip_default_ttl=255 net.ipv6.conf.eth.hop_limit=255
ip -n c3 link set eth mtu 1400

source "$here/servers.sh"
start_servers "$seed"

dumps=()
for i in 1 2 3; do
	tcpdump -i "s$i" -Z root -s 256 -B 8192 -U -w "$raw.$i.pcap" 'tcp or udp' 2>"$work/tcpdump.$i.log" &
	dumps+=($!)
done
for i in 1 2 3; do
	until grep -q 'listening on' "$work/tcpdump.$i.log"; do sleep 0.1; done
done
cp "$here"/sip/*.xml "$work/"
"$work/load" -seed "$seed" -count "$count" -only "$only" -files "$work"
sleep 2
kill -INT "${dumps[@]}"
wait "${dumps[@]}"
