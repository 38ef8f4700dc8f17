# Sourced by run.sh: starts the servers; they end with the process namespace. Needs $work. All state lives in $work/srv; addresses
# are whatever the server namespace has, so "any" is safe to bind.

# Host and product names of banners by seed, so that a banner seen in training is not the banner of the test.
names=("" "mx1.alpha.lab Alpha" "relay.bravo.lab Bravo" "gate.charlie.example Charlie" "delta.lab Delta-Systems" "ns7.echo.example Echo")

wait_port() { # $1 port; TCP only
	local i
	for i in $(seq 150); do
		(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
		sleep 0.1
	done
	echo "servers.sh: nothing listens on port $1; logs:" >&2
	tail -n 5 "$work"/srv/*.log >&2
	ss -lntu >&2
	return 1
}

start() { # $1 name, the rest the command, which must stay in the foreground
	local name=$1; shift
	"$@" >"$work/srv/$name.log" 2>&1 </dev/null &
}

start_servers() { # $1 seed
	local d=$work/srv host brand
	read -r host brand <<<"${names[$1]}"
	# No name of the machine underneath gets into a banner or a log line.
	hostname "$host"
	printf '127.0.0.1 localhost %s\n::1 localhost\n' "$host" >"$work/hosts"
	mount --bind "$work/hosts" /etc/hosts
	mount --bind /dev/null /etc/resolv.conf
	rm -rf "$d"; mkdir -p "$d/www" "$d/tftp"; chmod 755 "$d" "$d/www" "$d/tftp"

	local n
	for n in 10 300 1200 9000 60000; do
		head -c "$n" /dev/urandom | base64 >"$d/www/f$n.txt"
		cp "$d/www/f$n.txt" "$d/tftp/"
	done
	echo "<html><title>$brand</title>$host</html>" >"$d/www/index.html"
	chmod 644 "$d"/www/* "$d"/tftp/*
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=$host" \
		-keyout "$d/key.pem" -out "$d/cert.pem" 2>/dev/null
	openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=www.$host" \
		-keyout "$d/rsa.key" -out "$d/rsa.pem" 2>/dev/null

	# HTTP, TLS
	cat >"$d/nginx.conf" <<-EOF
		daemon off; user root; pid $d/nginx.pid; error_log $d/nginx.err;
		events {}
		http {
		  access_log off; client_body_temp_path $d/nb; proxy_temp_path $d/np; fastcgi_temp_path $d/nf;
		  uwsgi_temp_path $d/nu; scgi_temp_path $d/ns; root $d/www;
		  server { listen 80; listen [::]:80; listen 8080; listen [::]:8080; error_page 405 =200 \$uri; }
		  server { listen 443 ssl http2; listen [::]:443 ssl http2; ssl_certificate $d/cert.pem; ssl_certificate_key $d/key.pem;
		    ssl_protocols TLSv1.2 TLSv1.3; }
		  server { listen 4443 ssl; listen [::]:4443 ssl; ssl_certificate $d/rsa.pem; ssl_certificate_key $d/rsa.key; }
		}
	EOF
	start nginx nginx -c "$d/nginx.conf"
	start http python3 -m http.server --bind :: --directory "$d/www" 8000
	start s_server openssl s_server -quiet -accept 8443 -cert "$d/rsa.pem" -key "$d/rsa.key" -www
	start quic gtlsserver -q -d "$d/www" '*' 4433 "$d/key.pem" "$d/cert.pem"

	# Names and time
	start dns dnsmasq -k -p 53 -R -h -C /dev/null --pid-file= --user=root --local=/lab/ --local=/example/ \
		--address=/www.lab/10.1.2.3 --address=/www.lab/fd00::3 --txt-record=txt.lab,"v=spf1 $host -all" \
		--mx-host=lab,"$host",10 --srv-host=_sip._udp.lab,"$host",5060 --host-record="$host",10.9.8.7
	printf 'local stratum 3\nallow all\ncmdport 0\npidfile %s/chrony.pid\ndriftfile %s/drift\n' "$d" "$d" >"$d/chrony.conf"
	start ntp chronyd -d -x -u root -f "$d/chrony.conf"

	# Login, files
	mkdir -p /run/sshd
	ssh-keygen -q -t ed25519 -N '' -f "$d/host_ed"
	ssh-keygen -q -t rsa -b 2048 -N '' -f "$d/host_rsa"
	[ -f "$work/id" ] || ssh-keygen -q -t ed25519 -N '' -f "$work/id"
	printf 'HostKey %s\nHostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nPermitRootLogin yes\nPidFile none\n' \
		"$d/host_ed" "$d/host_rsa" "$work/id.pub" >"$d/sshd.conf"
	start ssh /usr/sbin/sshd -D -e -f "$d/sshd.conf" -o Port=22
	start ssh2 /usr/sbin/sshd -D -e -f "$d/sshd.conf" -o Port=2222 -o "VersionAddendum=$brand"
	mkdir -p "$d/empty"
	printf 'listen=NO\nlisten_ipv6=YES\nbackground=NO\nanonymous_enable=YES\nanon_root=%s\nlocal_enable=NO\npasv_min_port=50000\npasv_max_port=50100\nsecure_chroot_dir=%s\nseccomp_sandbox=NO\n' \
		"$d/www" "$d/empty" >"$d/ftp.conf"
	cp "$d/ftp.conf" "$d/ftp2.conf"
	printf 'listen_port=2121\nftpd_banner=%s FTP server (%s) ready.\n' "$host" "$brand" >>"$d/ftp2.conf"
	start ftp vsftpd "$d/ftp.conf"
	start ftp2 vsftpd "$d/ftp2.conf"
	start tftp in.tftpd -L -R 6900:6999 -s "$d/tftp"

	# Mail
	mkdir -p /var/spool/smtpd /var/lib/opensmtpd/empty; chmod 711 /var/spool/smtpd
	printf 'listen on 0.0.0.0 port 25 hostname %s\nlisten on :: port 25 hostname %s\naction "drop" mda "/bin/true"\nmatch from any for any action "drop"\n' \
		"$host" "$host" >"$d/smtpd.conf"
	start smtp smtpd -d -f "$d/smtpd.conf"
	start smtp2 aiosmtpd -n -l 0.0.0.0:2525
	start smtp26 aiosmtpd -n -l :::2525
	cat >"$d/dovecot.conf" <<-EOF
		base_dir = $d/dovecot
		state_dir = $d/dovecot
		log_path = /dev/stderr
		protocols = imap pop3
		ssl = no
		disable_plaintext_auth = no
		login_greeting = $brand ready.
		mail_location = maildir:$d/mail/%u
		first_valid_uid = 0
		passdb {
		  driver = static
		  args = password=secret
		}
		userdb {
		  driver = static
		  args = uid=mail gid=mail home=$d/mail/%u
		}
	EOF
	mkdir -p "$d/mail"; chown mail:mail "$d/mail"
	start imap dovecot -F -c "$d/dovecot.conf"

	# Messages, logs, management
	printf 'listener 1883\nlistener 1884\nallow_anonymous true\nuser root\n' >"$d/mosquitto.conf"
	start mqtt mosquitto -c "$d/mosquitto.conf"
	printf 'module(load="imudp")\nmodule(load="imtcp")\ninput(type="imudp" port="514")\ninput(type="imtcp" port="514")\n*.* %s/messages\n' "$d" >"$d/rsyslog.conf"
	start syslog rsyslogd -n -f "$d/rsyslog.conf" -i "$d/rsyslog.pid"
	printf 'agentAddress udp:161,udp6:[::]:161\nrocommunity public\nrocommunity lab\nrocommunity6 public\nrocommunity6 lab\nsysName %s\nsysDescr testbed\ncreateUser reader SHA labsecret1 AES labsecret2\nrouser reader\n' "$host" >"$d/snmpd.conf"
	start snmp snmpd -f -Lo -C -c "$d/snmpd.conf" -p "$d/snmp.pid"
	# SIPp writes its address into its answers, so there is one for each address.
	for n in 1 2 3; do
		start "sip$n" sipp -sn uas -nostdin -p 5060 -i "10.77.$n.1" -mp "$((20000 + 10 * n))"
		start "sip6$n" sipp -sn uas -nostdin -p 5060 -i "[fd77:$n::1]" -mp "$((21000 + 10 * n))"
		start "siptcp$n" sipp -sn uas -nostdin -p 5061 -t t1 -i "10.77.$n.1" -mp "$((22000 + 10 * n))"
		start "sipq$n" sipp -sf "$here/sip/uas.xml" -nostdin -p 5062 -i "10.77.$n.1" -mp "$((23000 + 10 * n))"
		start "sipq6$n" sipp -sf "$here/sip/uas.xml" -nostdin -p 5062 -i "[fd77:$n::1]" -mp "$((24000 + 10 * n))"
	done
	start stun turnserver -c /dev/null -n --stun-only --no-tls --no-dtls --no-cli --listening-port 3478 --log-file stdout --pidfile "$d/turn.pid"

	# Stores and directories
	start redis redis-server --port 6379 --bind '* -::*' --protected-mode no --save '' --dir "$d"
	start redis2 redis-server --port 6380 --bind '* -::*' --requirepass secret --save '' --dir "$d"
	start memcached memcached -u root -p 11211 -U 0 -l 0.0.0.0,::
	cp -r /etc/freeradius/3.0 "$d/raddb"
	printf 'client lab4 {\n ipaddr = 0.0.0.0/0\n secret = labsecret\n}\nclient lab6 {\n ipv6addr = ::/0\n secret = labsecret\n}\n' >"$d/raddb/clients.conf"
	sed -i '1i lab Cleartext-Password := "secret"' "$d/raddb/mods-config/files/authorize"
	rm -f "$d/raddb/mods-enabled/eap" "$d/raddb/sites-enabled/inner-tunnel"
	sed -i '/^[[:space:]]*eap\b.*{/,/}/d; /^[[:space:]]*-\?eap$/d' "$d/raddb/sites-enabled/default"
	sed -i 's/^\([[:space:]]*\)\(user\|group\) = freerad/\1# \2/' "$d/raddb/radiusd.conf"
	mkdir -p /run/freeradius /var/log/freeradius
	start radius freeradius -f -l stdout -d "$d/raddb"
	mkdir -p "$d/ldap"
	printf 'include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\ndatabase mdb\nsuffix "dc=lab"\nrootdn "cn=admin,dc=lab"\nrootpw secret\ndirectory %s/ldap\nmaxsize 10485760\n' "$d" >"$d/slapd.conf"
	start ldap slapd -d 0 -h 'ldap://0.0.0.0:389 ldap://[::]:389' -f "$d/slapd.conf"

	local pg
	pg=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
	mkdir -p "$d/pg" /run/postgresql; chown postgres "$d/pg" /run/postgresql
	(cd / && runuser -u postgres -- "$pg/initdb" -D "$d/pg" -A trust -U lab --no-sync) >"$d/initdb.log" 2>&1
	printf 'host all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n' >>"$d/pg/pg_hba.conf"
	start pg runuser -u postgres -- "$pg/postgres" -D "$d/pg" -c listen_addresses='*' -c unix_socket_directories=/run/postgresql -c fsync=off
	mkdir -p "$d/my"
	mariadb-install-db --no-defaults --user=root --datadir="$d/my" --auth-root-authentication-method=normal --skip-test-db >"$d/my.install.log" 2>&1
	start mysql mariadbd --no-defaults --user=root --datadir="$d/my" --socket="$d/my.sock" --bind-address='*' --skip-name-resolve --pid-file="$d/my.pid"

	local p
	for p in 80 443 8000 8443 53 22 2222 21 2121 25 2525 143 110 1883 514 6379 6380 11211 389 5432 3306; do
		wait_port "$p"
	done
	mariadb -S "$d/my.sock" -u root -e "create user lab@'%' identified by 'secret'; grant all on *.* to lab@'%'"
}
