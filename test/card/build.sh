#!/usr/bin/env bash
# build.sh DIR: makes the emulated card in DIR, or finds it there: a disk image, a kernel, an initramfs and a key.
#
# The card is Debian for arm64 with systemd and sshd, on a Cortex-A76 (dot product, as BlueField-3's cores) of qemu-system.
# It is made anew when this recipe has changed, by root, from the Debian mirror that this machine itself uses. Nothing but root and
# the network is asked of this machine: no KVM, binfmt_misc, loop device, tap or mount.
# Exit status 77: this machine lacks what it takes (on standard error: what, and the way out); with CI=true that is 1.
set -euo pipefail

dir=$(realpath -m "${1:?usage: build.sh DIR}")
suite=bookworm
packages=usr-is-merged,systemd-sysv,openssh-server,sudo,iproute2,kmod,ethtool,nftables,busybox-static
needed=(mmdebstrap qemu-system-aarch64 qemu-img mkfs.ext4 depmod cpio ssh-keygen dpkg-deb)

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
[ ${#missing[@]} = 0 ] || lacking "missing: ${missing[*]}: apt-get install mmdebstrap qemu-system-arm qemu-utils e2fsprogs kmod cpio openssh-client dpkg"
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
exec 9> "$dir/lock"
flock 9
if [ "$(cat "$dir/recipe" 2>/dev/null)" = "$recipe" ]; then exit 0; fi
work=$(mktemp -d "$dir/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
cd "$work"

say "Debian $suite for arm64 from $mirror (some minutes)"
# The kernel is unpacked, not installed: its installation would build an initramfs under emulation for half an hour.
cat > kernel.sh <<'K'
set -e
export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG
name=$(apt-cache depends linux-image-cloud-arm64 | awk '/Depends: linux-image/ {print $2; exit}')
cd "$(dirname "$0")" && apt-get -qq -o APT::Sandbox::User=root download "$name"
K
# Packages are unpacked here, which runs nothing of theirs.
timeout -k 10 1200 mmdebstrap --quiet --arch=arm64 --variant=extract --mode=root --skip=check/qemu,cleanup "${apt[@]}" \
  --setup-hook='for d in bin sbin lib; do mkdir -p "$1/usr/$d" && ln -s "usr/$d" "$1/$d"; done' \
  --include='?essential' --include="$packages" --extract-hook="sh $work/kernel.sh" "$suite" root - <<< "deb $mirror $suite main" 2> debian.err ||
  { tail -n 20 debian.err >&2; say "Debian could not be fetched from $mirror (above); another mirror: CARD_MIRROR=URL make card"; exit 1; }

say "packages, kernel and initramfs"
# What dpkg would know of them had it unpacked them: the card configures them itself.
info=root/var/lib/dpkg/info
mkdir -p $info
: > root/var/lib/dpkg/status
for deb in root/var/cache/apt/archives/*.deb; do
  dpkg-deb --control "$deb" control
  name=$(sed -n 's/^Package: //p' control/control)
  if grep -q '^Multi-Arch: same' control/control; then name=$name:arm64; fi
  dpkg-deb --fsys-tarfile "$deb" | tar -t | sed 's|^\.||; s|/$||; s|^$|/.|' > "$info/$name.list"
  sed '/^Package:/a Status: install ok unpacked' control/control >> root/var/lib/dpkg/status
  echo >> root/var/lib/dpkg/status
  rm control/control
  for f in control/*; do [ ! -e "$f" ] || mv "$f" "$info/$name.${f##*/}"; done
  rm -r control
done
rm -rf root/var/cache/apt root/var/lib/apt/lists root/usr/share/{man,locale,doc,info,i18n}
dpkg-deb --fsys-tarfile linux-image-*.deb | tar -x --keep-directory-symlink -C root
version=$(basename root/lib/modules/*)
mv "root/boot/vmlinuz-$version" vmlinuz
# Modules of hardware that this card has not are half of the image.
find "root/lib/modules/$version/kernel" -mindepth 1 -maxdepth 2 \( -path '*/kernel/sound' -o -path '*/drivers/gpu' -o -path '*/drivers/infiniband' -o -path '*/drivers/scsi' \) -prune -exec rm -r {} +
depmod -b root "$version"
# Just what finds the disk, and the drivers that would wait for udev.
mkdir -p initramfs/{bin,modules,proc,sys,dev,newroot}
cp root/bin/busybox initramfs/bin/
for m in virtio_pci virtio_blk virtio_net virtio_rng ext4; do modprobe -d root -S "$version" --show-depends "$m"; done |
  awk '$1 == "insmod" && !seen[$2]++ {print $2}' |
  while read -r f; do cp "root/${f#*root/}" initramfs/modules/; basename "$f"; done > initramfs/modules/order
cat > initramfs/init <<'I'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc none /proc; $b mount -t sysfs none /sys; $b mount -t devtmpfs none /dev
while read -r m; do $b insmod /modules/$m; done < /modules/order
i=0; while [ ! -b /dev/vda ] && [ $i -lt 100 ]; do $b sleep 0.1; i=$((i+1)); done
# ext4 as strict as POSIX: a rename does not write the file that it moves. Who forgets to is found out.
if $b mount -t ext4 -o noauto_da_alloc /dev/vda /newroot; then
  for d in proc sys dev; do $b mount -o move /$d /newroot/$d; done
  [ -e /newroot/configure ] || exec $b switch_root /newroot /sbin/init
  # The first start.
  $b chroot /newroot /configure && $b rm /newroot/configure && $b umount /newroot/proc /newroot/sys /newroot/dev /newroot && echo 'card: configured'
  $b poweroff -f
fi
echo 'card: no root'; exec $b poweroff -f
I
chmod +x initramfs/init
(cd initramfs && find . | cpio -o -H newc --quiet | gzip -1) > initrd.gz

say "disk image"
ssh-keygen -q -t ed25519 -N '' -C card -f key
mkdir -p -m 700 root/root/.ssh
cp key.pub root/root/.ssh/authorized_keys
for t in rsa ecdsa ed25519; do ssh-keygen -q -t $t -N '' -C card -f root/etc/ssh/ssh_host_${t}_key; done
echo card > root/etc/hostname
echo '127.0.0.1 localhost card' > root/etc/hosts
# Interfaces have the names that a BlueField gives them: by address, which the harness sets. What Debian 12's kernel merges, nobody can take apart.
mkdir -p root/usr/local/sbin
cat > root/usr/local/sbin/card-network <<'N'
#!/bin/sh
for d in /sys/class/net/*; do
  case $(cat "$d/address") in
  52:54:00:00:00:01) ip link set "${d##*/}" name oob_net0 ;;
  52:54:00:00:00:02) ip link set "${d##*/}" name p0 ;;
  52:54:00:00:00:03) ip link set "${d##*/}" name p1 ;;
  esac
done
for i in oob_net0 p0 p1; do
  echo 1 > /proc/sys/net/ipv6/conf/$i/disable_ipv6
done
ethtool -K p0 gro off
ethtool -K p1 gro off
ip -batch - <<'B'
link set lo up
address add 10.0.2.15/24 dev oob_net0
link set oob_net0 up
route add default via 10.0.2.2
link set p0 arp off up
link set p1 arp off up
B
N
chmod +x root/usr/local/sbin/card-network
units=root/etc/systemd/system
mkdir -p $units/multi-user.target.wants $units/ssh.service.d
cat > $units/card-network.service <<'N'
[Unit]
Description=The card's interfaces
DefaultDependencies=no
Wants=network.target
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/card-network
N
ln -s ../card-network.service $units/multi-user.target.wants/
# What an emulated card has no use for would take two thirds of its start.
for u in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer systemd-tmpfiles-clean.timer \
  e2scrub_reap.service getty.target getty@tty1.service serial-getty@ttyAMA0.service systemd-pstore.service systemd-logind.service \
  systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-modules-load.service systemd-sysusers.service systemd-sysctl.service \
  systemd-random-seed.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-firstboot.service systemd-repart.service \
  systemd-machine-id-commit.service systemd-pcrphase.service systemd-pcrphase-sysinit.service kmod-static-nodes.service systemd-remount-fs.service \
  systemd-ask-password-console.path systemd-ask-password-wall.path systemd-initctl.socket systemd-journald-audit.socket \
  cryptsetup.target veritysetup.target integritysetup.target remote-fs.target \
  dev-hugepages.mount dev-mqueue.mount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
  modprobe@{configfs,fuse,dm_mod,drm,efi_pstore,loop}.service; do
  ln -sf /dev/null "$units/$u"
done
# Who waits for the card sees on the console when it answers.
printf '[Service]\nExecStartPost=/bin/sh -c "echo card: answers > /dev/console"\n' > $units/ssh.service.d/answers.conf
mkdir -p root/var/log/journal  # the log outlives a power cut
# The first start configures the packages.
cat > root/configure <<'C'
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true
mount -t tmpfs none /run
# Some scripts take for granted what earlier packages' bring.
ln -s mawk /usr/bin/awk
/var/lib/dpkg/info/base-passwd.preinst install
dpkg --force-unsafe-io --configure -a && umount /run
C
chmod +x root/configure
truncate -s 2G card.img
mkfs.ext4 -q -F -L card -d root card.img
say "the card configures itself"
timeout -k 10 900 qemu-system-aarch64 -machine virt -cpu cortex-a76 -smp 1 -m 1024 -display none -monitor none -serial file:console -nic none -no-reboot \
  -kernel vmlinuz -initrd initrd.gz -append 'console=ttyAMA0 panic=-1 quiet mitigations=off' -device virtio-rng-pci \
  -drive if=virtio,format=raw,cache=unsafe,file=card.img 2> qemu.err < /dev/null || true
grep -q '^card: configured' console || { cat qemu.err console >&2; say "it does not come to an end (above)"; exit 1; }
for f in card.img vmlinuz initrd.gz key key.pub; do mv -f "$f" "$dir/"; done
echo "$recipe" > "$dir/recipe"
say "made in $dir: $(du -h "$dir/card.img" | cut -f1) of disk image, Linux $version"
