#!/usr/bin/env bash
# build.sh DIR: makes the emulated card in DIR, or finds it there: a disk image, a kernel, an initramfs and a key.
#
# The card is Debian for arm64 with systemd and sshd, on a Cortex-A76 (dot product, as BlueField-3's cores) of qemu-system.
# It is made anew when this recipe has changed, by root, from the Debian mirror that this machine itself uses.
# Exit status 77: this machine lacks what it takes (on standard error: what, and the way out); with CI=true that is 1.
set -euo pipefail

dir=$(realpath -m "${1:?usage: build.sh DIR}")
suite=bookworm
packages=systemd-sysv,openssh-server,udev,dbus,iproute2,kmod,ethtool,nftables,iputils-ping,curl,tcpdump,busybox-static
needed=(mmdebstrap qemu-aarch64-static qemu-system-aarch64 qemu-img mkfs.ext4 depmod cpio ssh-keygen dpkg-deb)

recipe=$(sha256sum < "$0")
say() { echo "card: $*" >&2; }
lacking() { say "$*"; [ "${CI:-}" = true ] && exit 1; exit 77; }

if [ "$(cat "$dir/recipe" 2>/dev/null)" = "$recipe" ]; then
  say "$dir is up to date"
  exit 0
fi

# What it takes.
PATH=$PATH:/usr/sbin:/sbin
missing=()
for tool in "${needed[@]}"; do command -v "$tool" > /dev/null || missing+=("$tool"); done
[ ${#missing[@]} = 0 ] || lacking "missing: ${missing[*]}: apt-get install mmdebstrap qemu-user-static qemu-system-arm qemu-utils e2fsprogs kmod cpio openssh-client dpkg"
[ "$(id -u)" = 0 ] || lacking "only root can build it (sudo make card); to boot it, no root is needed"

# The mirror is the first of apt's sources that has Debian itself, in either form; CARD_MIRROR says otherwise.
mirror=${CARD_MIRROR:-$(
  { grep -rhsE '^URIs:' /etc/apt/sources.list.d --include='*.sources' | tr ' ' '\n'
    grep -rhsE '^deb ' /etc/apt/sources.list /etc/apt/sources.list.d --include='*.list' | sed 's/\[[^]]*\]//' | awk '{print $2}'
  } | grep -E '^https?://.*/debian/?$' | head -n 1 || true)}
[ -n "$mirror" ] || lacking "apt's sources name no mirror of Debian: CARD_MIRROR=http://deb.debian.org/debian make card"
# Refused or silent, a mirror is given up after seconds, and all of the building after 20 minutes.
apt=(--aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::http::Timeout "20"' --aptopt='Acquire::https::Timeout "20"' --aptopt='Acquire::Retries "3"')
proxy=$(apt-config shell p Acquire::http::Proxy 2>/dev/null | sed "s/^p=//; s/'//g") || true
[ -z "$proxy" ] || apt+=(--aptopt="Acquire::http::Proxy \"$proxy\"")

mkdir -p "$dir"
# One at a time on a machine: what is registered below is the machine's.
mkdir -p /run/lock
exec 9> /run/lock/nepcoc-card
flock 9
if [ "$(cat "$dir/recipe" 2>/dev/null)" = "$recipe" ]; then exit 0; fi
work=$(mktemp -d "$dir/work.XXXXXX")
binfmt=/proc/sys/fs/binfmt_misc
registered= mounted=
cleanup() {
  # What is registered is so for the whole machine: it goes with the building.
  [ -z "$registered" ] || echo -1 > "$binfmt/nepcoc-arm64" || true
  [ -z "$mounted" ] || umount "$binfmt" || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM
cd "$work"

# Programs for arm64 run here through qemu-user, as far as packages run some when they are installed.
if ! grep -qs '^enabled' "$binfmt/qemu-aarch64" "$binfmt/nepcoc-arm64"; then
  if [ ! -e "$binfmt/register" ]; then
    mount -t binfmt_misc none "$binfmt" 2> mount.err || lacking "binfmt_misc can't be mounted ($(cat mount.err)): in a container, run it with --privileged, or install binfmt-support and qemu-user-static on its host"
    mounted=yes
  fi
fi
if ! grep -qs '^enabled' "$binfmt/qemu-aarch64" "$binfmt/nepcoc-arm64"; then
  magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00' mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  echo ":nepcoc-arm64:M::$magic:$mask:$(command -v qemu-aarch64-static):F" 2> register.err > "$binfmt/register" ||
    lacking "programs for arm64 can't be registered with binfmt_misc ($(cat register.err)): install binfmt-support, or run in a container with --privileged"
  registered=yes
fi

say "Debian $suite for arm64 from $mirror (some minutes)"
# The kernel is unpacked, not installed: its installation would build an initramfs under emulation for half an hour.
cat > kernel.sh <<'K'
set -e
export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG
name=$(apt-cache depends linux-image-cloud-arm64 | awk '/Depends: linux-image/ {print $2; exit}')
cd "$(dirname "$0")" && apt-get -qq -o APT::Sandbox::User=root download "$name"
K
timeout -k 10 1200 mmdebstrap --quiet --arch=arm64 --variant=minbase --mode=root --skip=check/qemu "${apt[@]}" \
  --include="$packages" --customize-hook="sh $work/kernel.sh" \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  "$suite" root - <<< "deb $mirror $suite main" 2> debian.err ||
  { tail -n 20 debian.err >&2; say "Debian could not be installed from $mirror (above); another mirror: CARD_MIRROR=URL make card"; exit 1; }

say "kernel and initramfs"
dpkg-deb --fsys-tarfile linux-image-*.deb | tar -x --keep-directory-symlink -C root
version=$(basename root/lib/modules/*)
mv "root/boot/vmlinuz-$version" vmlinuz
depmod -b root "$version"
# Just what finds the disk.
mkdir -p initramfs/{bin,modules,proc,sys,dev,newroot}
cp root/bin/busybox initramfs/bin/
for m in virtio_pci virtio_blk ext4; do modprobe -d root -S "$version" --show-depends "$m"; done |
  awk '$1 == "insmod" && !seen[$2]++ {print $2}' |
  while read -r f; do cp "root/${f#*root/}" initramfs/modules/; basename "$f"; done > initramfs/modules/order
cat > initramfs/init <<'I'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc none /proc; $b mount -t sysfs none /sys; $b mount -t devtmpfs none /dev
while read -r m; do $b insmod /modules/$m; done < /modules/order
i=0; while [ ! -b /dev/vda ] && [ $i -lt 100 ]; do $b sleep 0.1; i=$((i+1)); done
# ext4 as strict as POSIX: a rename does not write the file that it moves. Who forgets to is found out.
$b mount -t ext4 -o noauto_da_alloc /dev/vda /newroot && exec $b switch_root /newroot /sbin/init
echo 'card: no root'; exec $b poweroff -f
I
chmod +x initramfs/init
(cd initramfs && find . | cpio -o -H newc --quiet | gzip -1) > initrd.gz

say "disk image"
ssh-keygen -q -t ed25519 -N '' -C card -f key
mkdir -p -m 700 root/root/.ssh
cp key.pub root/root/.ssh/authorized_keys
echo card > root/etc/hostname
echo '127.0.0.1 localhost card' > root/etc/hosts
# Interfaces have the names that a BlueField gives them: by address, which the harness sets.
net=root/etc/systemd/network
printf '[Match]\nMACAddress=52:54:00:00:00:01\n[Link]\nName=oob_net0\n' > $net/10-oob.link
# What Debian 12's kernel merges, nobody can take apart.
printf '[Match]\nMACAddress=52:54:00:00:00:02\n[Link]\nName=p0\nGenericReceiveOffload=no\n' > $net/10-p0.link
printf '[Match]\nMACAddress=52:54:00:00:00:03\n[Link]\nName=p1\nGenericReceiveOffload=no\n' > $net/10-p1.link
printf '[Match]\nName=oob_net0\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' > $net/20-oob.network
printf '[Match]\nName=p0 p1\n[Link]\nARP=no\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' > $net/20-ports.network
units=root/etc/systemd/system
mkdir -p $units/multi-user.target.wants
ln -sf /lib/systemd/system/systemd-networkd.service $units/multi-user.target.wants/
# What an emulated card has no use for would take half of its start.
for u in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
  systemd-networkd-wait-online.service getty@tty1.service serial-getty@ttyAMA0.service systemd-pstore.service \
  dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
  modprobe@{configfs,fuse,dm_mod,drm,efi_pstore,loop}.service; do
  ln -sf /dev/null "$units/$u"
done
# Who waits for the card sees on the console when it answers.
mkdir -p $units/ssh.service.d
printf '[Service]\nExecStartPost=/bin/sh -c "echo card: answers > /dev/console"\n' > $units/ssh.service.d/answers.conf
mkdir -p root/var/log/journal  # the log outlives a power cut
rm -rf root/etc/dpkg/dpkg.cfg.d/99mmdebstrap root/var/cache/apt/* root/var/lib/apt/lists/* root/boot/*
truncate -s 2G card.img
mkfs.ext4 -q -F -L card -d root card.img
for f in card.img vmlinuz initrd.gz key key.pub; do mv -f "$f" "$dir/"; done
echo "$recipe" > "$dir/recipe"
say "made in $dir: $(du -h "$dir/card.img" | cut -f1) of disk image, Linux $version"
