#!/bin/sh
# Builds the Debian packages of nepcod:
#
#	packaging/build-deb.sh [-o DIR] [ARCH ...]
#
# ARCH is arm64 (the card) or amd64 (its host); both if none is named. Needs go
# and dpkg-deb. The same sources give the same bytes, and the version that the program says.
set -eu

out=dist
while getopts o: opt; do
	case $opt in
	o) out=$OPTARG ;;
	*) echo "usage: $0 [-o DIR] [arm64|amd64 ...]" >&2; exit 2 ;;
	esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || set -- arm64 amd64

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$root"

# The time of the last commit stands for all times in the package.
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || echo 1700000000)}"
export SOURCE_DATE_EPOCH
version=$(sed -n 's/^const Version = "\(.*\)"$/\1/p' internal/version/version.go)
[ -n "$version" ] || { echo "$0: internal/version/version.go has no version" >&2; exit 1; }
umask 022

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for arch; do
	case $arch in arm64 | amd64) ;; *) echo "$0: $arch: want arm64 or amd64" >&2; exit 2 ;; esac
	dir=$work/$arch
	mkdir -p "$dir/DEBIAN" "$dir/usr/bin" "$dir/etc/nepcod" "$dir/etc/logrotate.d" \
		"$dir/usr/lib/systemd/system" "$dir/usr/share/doc/nepcod"
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$dir/usr/bin/nepcod" ./cmd/nepcod
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$dir/usr/bin/nepcof" ./cmd/nepcof
	mkdir -p "$dir/usr/lib/sysusers.d" "$dir/usr/share/doc/nepcod/fleet"
	cp "$here/fleet/nepcof.sysusers" "$dir/usr/lib/sysusers.d/nepcof.conf"
	cp "$here/fleet/nepcof-card.service" "$here/fleet/nepcof-hub.service" "$here/fleet/nepcof-sink@.service" "$here/fleet/nepcod.path" "$dir/usr/lib/systemd/system/"
	cp "$here/fleet/nepcod-fleet.conf" "$here/fleet/nats-cluster.conf" "$here/fleet/vector.yaml" "$here/fleet/fluent-bit.yaml" "$dir/usr/share/doc/nepcod/fleet/"
	cp "$here/nepcod.yaml" "$dir/etc/nepcod/nepcod.yaml"
	cp "$here/nepcod.logrotate" "$dir/etc/logrotate.d/nepcod"
	cp "$here/nepcod.service" "$dir/usr/lib/systemd/system/nepcod.service"
	cp "$root/docs/bluefield.md" "$root/docs/actions.md" "$root/docs/marks.md" "$root/docs/verdicts.md" "$root/docs/metrics.md" "$root/docs/fleet.md" "$root/docs/fleet-page.md" \
		"$root/docs/plan.md" "$root/docs/drift.md" "$root/docs/unknown.md" \
		"$here/grafana/nepcod.json" "$here/prometheus/nepcod.rules.yml" "$here/prometheus/nepcof.rules.yml" "$dir/usr/share/doc/nepcod/"
	chmod -R u=rwX,go=rX "$dir"
	printf '/etc/nepcod/nepcod.yaml\n/etc/logrotate.d/nepcod\n' >"$dir/DEBIAN/conffiles"
	# The unit is not started by the installation: there is no bundle yet.
	cat >"$dir/DEBIAN/postinst" <<'EOS'
#!/bin/sh
set -e
# Where the first bundle is shipped to; systemd moves it to /var/lib/private at the first start, and leaves a link, which is not touched.
if [ "$1" = configure ] && [ ! -e /var/lib/nepcod ] && [ ! -L /var/lib/nepcod ]; then
	mkdir -m 755 /var/lib/nepcod
fi
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
	systemd-sysusers nepcof.conf || true
	systemctl daemon-reload || true
	systemctl try-restart nepcod.service nepcof-card.service nepcof-hub.service 'nepcof-sink@*.service' || true
fi
EOS
	cat >"$dir/DEBIAN/prerm" <<'EOS'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
	systemctl disable --now nepcod.path nepcod.service nepcof-card.service nepcof-hub.service || true
	systemctl stop 'nepcof-sink@*.service' || true # disable takes no patterns
	systemctl disable nepcof-sink@.service || true
fi
EOS
	cat >"$dir/DEBIAN/postrm" <<'EOS'
#!/bin/sh
set -e
[ ! -d /run/systemd/system ] || systemctl daemon-reload || true
EOS
	chmod 755 "$dir/DEBIAN/postinst" "$dir/DEBIAN/prerm" "$dir/DEBIAN/postrm"
	cat >"$dir/DEBIAN/control" <<EOS
Package: nepcod
Version: $version
Architecture: $arch
Maintainer: nepcoc maintainers <nepcoc@localhost>
Section: net
Priority: optional
Installed-Size: $(du -k -s --apparent-size "$dir/usr" | cut -f1)
Suggests: logrotate
Description: classify network flows with a compiled bundle
 The agent of nepcoc: it captures packets, joins them to flows and classifies
 each flow by its first bytes, with a model compiled to integer arithmetic.
 One static program, no libraries.
EOS
	find "$dir" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	dpkg-deb --build --root-owner-group -Zxz "$dir" "$out/nepcod_${version}_$arch.deb" >/dev/null
	echo "$out/nepcod_${version}_$arch.deb"
done
