# What units.sh does within its container. Steps and configuration are those of docs/fleet.md, on one machine.
set -eu
say() { printf '\n== %s\n' "$*"; }
until_holds() {
	n=0
	until "$@" >/dev/null 2>&1; do
		n=$((n + 1))
		[ $n -lt 600 ] || { echo "not within 2 minutes: $*" >&2; journalctl --no-pager -n 60 -u 'nepco*' >&2; exit 1; }
		sleep 0.2
	done
}
as_nepcof() { setpriv --reuid nepcof --regid nepcof --init-groups "$@"; }

say 'the package: two accounts, and no unit that starts by itself'
dpkg -i nepcod.deb >/dev/null
getent passwd nepcod nepcof
for u in nepcof-hub nepcof-card nepcod nepcof-sink@racks; do
	! systemctl is-active --quiet $u && ! systemctl is-enabled --quiet $u || { echo "$u was started" >&2; exit 1; }
done

say 'a hub'
install -d -o nepcof -g nepcof -m 750 /var/lib/nepcof
as_nepcof nepcof init /var/lib/nepcof/fleet --host localhost
systemctl enable --now nepcof-hub
export NEPCOF_FLEET=/var/lib/nepcof/fleet
until_holds nepcof status
until_holds curl -fsS --cacert /var/lib/nepcof/fleet/ca.pem https://localhost:8443/healthz

say 'a card'
./nepcoc key new signer >/dev/null
for v in 1 2; do ./nepcoc compile demo.onnx --calib calib.pcap --model-version $v --sign signer.pem --serial $v -o v$v.nepco >/dev/null 2>&1; done
./nepcoc sign v1.nepco --key signer.pem --rollback-from 2 --reason test -o back.note >/dev/null
install -m 644 signer.pub /etc/nepcod/signer.pub
ip link set lo up
cat >/etc/nepcod/nepcod.yaml <<-EOF
	bundle: /var/lib/nepcof/model.nepco
	trusted_keys: [/etc/nepcod/signer.pub]
	allow_rollback: /var/lib/nepcof/back.note
	interface: lo
	output: {to: "unix:/run/nepcof/lines.sock", format: eve}
	metrics: {listen: ":9477"}
EOF
install -D -m 644 /usr/share/doc/nepcod/fleet/nepcod-fleet.conf /etc/systemd/system/nepcod.service.d/fleet.conf
nepcof enrol card-07 --group racks -o card-07.token
as_nepcof nepcof card --enrol - <card-07.token
systemctl daemon-reload
systemctl enable --now nepcof-card nepcod.path nepcod
until_holds sh -c 'nepcof cards --json | grep -q "\"seen\""'

say 'a sink, and rollouts'
systemctl enable --now nepcof-sink@racks
nepcof rollout v1.nepco --group racks --stage all --bake 0s --wait
until_holds systemctl is-active nepcod
until_holds sh -c 'nepcof cards --json | grep -q "\"phase\": \"running\""'
nepcof rollout v2.nepco --group racks --stage all --bake 0s --max-latency 1e6 --drift-halts=false --back back.note --wait
nepcof back racks
until_holds sh -c 'nepcof status racks | grep -q "^  rollout .*: returned, "'
nepcof status racks | tail -n 1 | grep '(serial 1): it runs on 1 of 1 card$'
until_holds test -s /var/log/nepcof/racks/lines.ndjson
nepcof cards

say 'who owns what'
stat -c '%A %U:%G %n' /var/lib/nepcof /var/lib/nepcof/fleet /var/lib/nepcof/fleet/seal.nk /var/lib/nepcof/card /var/lib/nepcof/model.nepco /run/nepcof /run/nepcof/lines.sock /var/lib/nepcod \
	/var/log/nepcof/racks /var/log/nepcof/racks/lines.ndjson | tee owners
grep -q -- '-rw------- nepcof:nepcof /var/lib/nepcof/fleet/seal.nk' owners
grep -q 'drwxr-x--- nepcof:nepcof /var/log/nepcof/racks$' owners
if setpriv --reuid nepcod --regid nepcod --init-groups cat /var/lib/nepcof/fleet/seal.nk 2>/dev/null; then exit 1; fi

say 'killed, and started again'
systemctl kill -s KILL nepcof-hub nepcof-card nepcof-sink@racks
until_holds systemctl is-active nepcof-hub
until_holds systemctl is-active nepcof-card
until_holds systemctl is-active nepcof-sink@racks
systemctl restart nepcof-hub nepcof-card nepcod nepcof-sink@racks
until_holds nepcof status racks
if systemctl list-units --failed --no-legend 'nepco*' | grep .; then exit 1; fi

say 'removed'
dpkg -r nepcod >/dev/null 2>&1
if systemctl list-units --no-legend 'nepco*' --state=active | grep .; then exit 1; fi
if ls -d /etc/systemd/system/*.wants/nepco* 2>/dev/null; then exit 1; fi
echo 'all held'
