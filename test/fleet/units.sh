#!/bin/sh
# The package and its fleet units under a real systemd, in a container whose files are this machine's with a layer over them that is thrown away:
# as docs/fleet.md says, hub, sink, card and agent start as services, a rollout reaches the agent, lines come to the sink, and all is removed again.
#
#	test/fleet/units.sh DEB BIN
#
# DEB is the package for this machine, BIN has nepcoc. Wants root, systemd-nspawn and curl. Exit code 77: they are not here, or may not do what it takes.
set -eu
deb=$(realpath "$1") bin=$(realpath "$2")
root=$(realpath "$(dirname "$0")/../..")
[ "$(id -u)" = 0 ] && command -v systemd-nspawn >/dev/null && command -v curl >/dev/null || { echo 'wants root, systemd-nspawn and curl' >&2; exit 77; }
dir=$(mktemp -d)
nspawn=
clean() {
	# The container's first process ends with its leader.
	[ -z "$nspawn" ] || { kill "$nspawn" 2>/dev/null || true; wait "$nspawn" || true; }
	umount -l "$dir/root" 2>/dev/null || true
	umount -l "$dir" 2>/dev/null || true
	rmdir "$dir"
}
trap clean EXIT
trap 'exit 1' INT TERM
mount -t tmpfs tmpfs "$dir" 2>/dev/null || exit 77
mkdir "$dir/up" "$dir/work" "$dir/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/up,workdir=$dir/work" "$dir/root" 2>/dev/null || exit 77
r=$dir/root
rm -rf "$r"/etc/systemd/system/*.wants
: >"$r/etc/machine-id"
ln -sf /usr/lib/systemd/system/multi-user.target "$r/etc/systemd/system/default.target"
mkdir "$r/fleet"
cp "$deb" "$r/fleet/nepcod.deb"
cp "$bin/nepcoc" "$root/examples/model/demo.onnx" "$root/examples/testbed/calib.pcap" "$root/test/fleet/units-inside.sh" "$r/fleet/"
systemd-nspawn -D "$r" --register=no --keep-unit --link-journal=no -b --console=pipe --private-network </dev/null >"$dir/console.log" 2>&1 &
nspawn=$!
n=0 first=
until [ -n "$first" ] && nsenter -t "$first" -a -r -- systemctl is-active --quiet multi-user.target 2>/dev/null; do
	n=$((n + 1))
	[ $n -lt 900 ] || { tail "$dir/console.log" >&2; echo 'systemd does not start in a container here' >&2; exit 77; }
	sleep 0.2
	first=$(pgrep -P "$nspawn" | head -n 1)
done
nsenter -t "$first" -a -r -- sh -c 'cd /fleet && exec sh units-inside.sh'
