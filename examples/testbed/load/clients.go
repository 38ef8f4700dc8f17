package main

import "fmt"

// client draws the command line, and what it reads from stdin, of one run of a client program.
type client struct {
	label   string
	udp     bool
	request func(r *requests) (argv []string, stdin string)
}

// clients has one entry per label of ports.txt.
var clients = []client{
	{"HTTP", false, http},
	{"TLS", false, tls},
	{"DNS", true, dns},
	{"SSH", false, ssh},
	{"SMTP", false, smtp},
	{"NTP", true, ntp},
	{"MQTT", false, mqtt},
	{"Redis", false, redis},
	{"PostgreSQL", false, postgres},
	{"MySQL", false, mysql},
	{"QUIC", true, quic},
	{"SNMP", true, snmp},
	{"FTP", false, ftp},
	{"SIP", true, sip},
	{"Memcached", false, memcached},
	{"Syslog", true, syslog},
	{"TFTP", true, tftp},
	{"IMAP", false, imap},
	{"POP3", false, pop3},
	{"LDAP", false, ldap},
	{"RADIUS", true, radius},
	{"STUN", true, stun},
}

func curl(args ...string) []string {
	return append([]string{"curl", "-sS", "-g", "-o", "/dev/null", "-m", "5"}, args...)
}

func http(r *requests) ([]string, string) {
	url := "http://" + r.url() + ":" + r.one("80", "8000", "8080") + r.path()
	if r.chance(0.2) {
		return []string{"wget", "-q", "-O", "/dev/null", "-T", "4", "-t", "1", "--user-agent=" + r.word() + "/1." + r.number(9), url}, ""
	}
	args := curl("-A", r.one("curl/7.88", "Mozilla/5.0 (X11)", r.word()+"/"+r.number(9)), "-H", "X-Note: "+r.text(80))
	switch r.rng.IntN(6) {
	case 0:
		args = append(args, "-I")
	case 1:
		args = append(args, "-d", r.text(300))
	case 2:
		args = append(args, "-X", r.one("PUT", "DELETE", "OPTIONS", "PATCH"), "-d", r.text(40))
	case 3:
		args = append(args, "-0")
	}
	return append(args, url), ""
}

func tls(r *requests) ([]string, string) {
	name, port := r.word()+".lab", r.one("443", "4443", "8443")
	if r.chance(0.4) {
		connect := r.url() + ":" + port
		args := []string{"openssl", "s_client", "-connect", connect, r.one("-tls1_2", "-tls1_3")}
		if r.chance(0.7) {
			args = append(args, "-servername", name)
		}
		if r.chance(0.5) {
			args = append(args, "-alpn", r.one("h2", "http/1.1", "h2,http/1.1", "imap"))
		}
		return args, "GET " + r.path() + " HTTP/1.0\r\n\r\n"
	}
	args := curl("-k", r.one("--http1.1", "--http2"), "--tls-max", r.one("1.2", "1.3"))
	return append(args, "--resolve", name+":"+port+":"+r.addr, "https://"+name+":"+port+r.path()), ""
}

func dns(r *requests) ([]string, string) {
	name := r.one("www.lab", r.word()+".lab", r.word()+"."+r.word()+".example", "txt.lab", "lab", "_sip._udp.lab")
	if r.chance(0.2) {
		return []string{"host", "-W", "2", "-t", r.one("A", "AAAA", "MX", "TXT"), name, r.addr}, ""
	}
	args := []string{"dig", "+tries=1", "+time=2", "@" + r.addr}
	if r.chance(0.15) {
		args = append(args, "-x", "10."+r.number(255)+"."+r.number(255)+"."+r.number(255))
	} else {
		args = append(args, name, r.one("A", "AAAA", "MX", "TXT", "SRV", "NS", "SOA", "ANY", "HTTPS"))
	}
	for _, option := range []string{"+nocookie", "+noedns", "+dnssec", "+norecurse", "+cdflag", "+bufsize=4096"} {
		if r.chance(0.2) {
			args = append(args, option)
		}
	}
	if r.chance(0.1) {
		args = append(args, "+tcp")
	}
	return args, ""
}

func ssh(r *requests) ([]string, string) {
	port := r.one("22", "2222")
	if r.chance(0.3) {
		return []string{"ssh-keyscan", "-T", "3", "-t", r.one("ed25519", "rsa"), "-p", port, r.addr}, ""
	}
	args := []string{"ssh", "-F", "none", "-i", r.files + "/id", "-p", port, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=4"}
	if r.chance(0.4) {
		args = append(args, "-c", r.one("aes128-ctr", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"))
	}
	if r.chance(0.3) {
		args = append(args, "-o", "KexAlgorithms="+r.one("curve25519-sha256", "ecdh-sha2-nistp256", "diffie-hellman-group14-sha256"))
	}
	return append(args, r.one("root", r.word())+"@"+r.addr, "echo "+r.text(100)), ""
}

func smtp(r *requests) ([]string, string) {
	from, to, port := r.word()+"@"+r.word()+".lab", r.word()+"@lab", r.one("25", "2525")
	if r.v6() || r.chance(0.4) {
		mail := fmt.Sprintf("From: %s\r\nSubject: %s\r\n\r\n%s\r\n", from, r.text(40), r.text(900))
		return curl("smtp://"+r.url()+":"+port+"/"+r.word(), "--mail-from", from, "--mail-rcpt", to, "-T", "-"), mail
	}
	args := []string{"swaks", "--timeout", "4", "--server", r.addr, "--port", port, "--from", from, "--to", to,
		"--helo", r.word() + ".lab", "--body", r.text(400), "--header", "Subject: " + r.text(30)}
	if r.chance(0.3) {
		args = append(args, "--quit-after", r.one("BANNER", "HELO", "MAIL", "RCPT"))
	}
	return args, ""
}

func ntp(r *requests) ([]string, string) {
	switch r.rng.IntN(3) {
	case 0:
		return []string{"chronyd", "-Q", "-x", "-u", "root", "-t", "3", "-f", "/dev/null",
			"server " + r.addr + " iburst maxsamples 2 version " + r.one("3", "4") + r.one("", " xleave", " minpoll 4"), "cmdport 0", "pidfile " + r.files + "/chronyd." + r.number(1e9) + ".pid"}, ""
	case 1:
		return []string{"ntpdig", "-t", "2", r.addr}, ""
	}
	return []string{"ntpdate", "-q", "-t", "2", "-p", r.one("1", "2", "4"), r.addr}, ""
}

func mqtt(r *requests) ([]string, string) {
	args := []string{r.one("mosquitto_pub", "mosquitto_sub"), "-h", r.addr, "-p", r.one("1883", "1884"), "-V", r.one("31", "311", "5"),
		"-t", r.word() + "/" + r.word(), "-q", r.one("0", "1", "2")}
	if r.chance(0.6) {
		args = append(args, "-i", r.word()+r.number(1000))
	}
	if r.chance(0.3) {
		args = append(args, "-u", r.word(), "-P", r.word())
	}
	if r.chance(0.3) {
		args = append(args, "-k", fmt.Sprint(5+r.rng.IntN(300)))
	}
	if args[0] == "mosquitto_sub" {
		return append(args, "-W", "1"), ""
	}
	if r.chance(0.3) {
		args = append(args, "--will-topic", r.word(), "--will-payload", r.word())
	}
	return append(args, "-m", r.text(500)), ""
}

func redis(r *requests) ([]string, string) {
	args := []string{"redis-cli", "-h", r.addr}
	if r.chance(0.4) {
		args = append(args, "-p", "6380", "-a", r.one("secret", r.word()), "--no-auth-warning")
	}
	if r.chance(0.2) {
		args = append(args, "-3")
	}
	if r.chance(0.2) {
		args = append(args, "-n", r.number(8))
	}
	key := r.word() + ":" + r.number(1000)
	commands := [][]string{{"SET", key, r.text(300)}, {"GET", key}, {"INCR", key}, {"PING"}, {"INFO", "replication"}, {"LPUSH", key, r.word(), r.word()},
		{"HSET", key, r.word(), r.text(50)}, {"EXPIRE", key, r.number(90)}, {"KEYS", r.word() + "*"}, {"ZADD", key, r.number(99), r.word()},
		{"MGET", key, r.word()}, {"CONFIG", "GET", "max*"}, {"PUBLISH", r.word(), r.text(60)}, {"SCAN", "0"}}
	return append(args, commands[r.rng.IntN(len(commands))]...), ""
}

func postgres(r *requests) ([]string, string) {
	if r.chance(0.15) {
		return []string{"pg_isready", "-h", r.addr, "-t", "3", "-U", r.word(), "-d", r.word()}, ""
	}
	query := r.one("select 1", "select version()", "select now(), "+r.number(1000), "select relname from pg_class limit "+r.number(50),
		"select '"+r.text(200)+"'", "show all", "select count(*) from "+r.word())
	target := fmt.Sprintf("host=%s dbname=%s user=%s sslmode=%s connect_timeout=3 application_name=%s",
		r.addr, r.one("postgres", "template1", r.word()), r.one("lab", "lab", r.word()), r.one("disable", "disable", "prefer"), r.word())
	return []string{"psql", "-X", "-At", target, "-c", query}, ""
}

func mysql(r *requests) ([]string, string) {
	args := []string{"mariadb", "--no-defaults", "-h", r.addr, "-P", "3306", "-u", r.one("lab", "lab", r.word()), "-p" + r.one("secret", "secret", r.word()), "--connect-timeout=3"}
	if r.chance(0.3) {
		args = append(args, "--compress")
	}
	if r.chance(0.3) {
		args = append(args, "-D", r.one("mysql", "information_schema", r.word()))
	}
	return append(args, "-e", r.one("select 1", "show databases", "select version()", "show variables like '"+r.word()+"%'", "select '"+r.text(200)+"'")), ""
}

func quic(r *requests) ([]string, string) {
	args := []string{"gtlsclient", "-q", "--exit-on-all-streams-close", "--timeout=2s"}
	if r.chance(0.3) {
		args = append(args, "-v", r.one("v1", "v2draft"))
	}
	if r.chance(0.3) {
		args = append(args, "--groups="+r.one("-GROUP-ALL:+GROUP-X25519", "-GROUP-ALL:+GROUP-SECP256R1"))
	}
	url := "https://" + r.word() + ".lab:4433"
	args = append(args, r.addr, "4433", url+r.path())
	if r.chance(0.3) {
		args = append(args, url+r.path())
	}
	return args, ""
}

func snmp(r *requests) ([]string, string) {
	agent := "udp:" + r.addr + ":161"
	if r.v6() {
		agent = "udp6:" + r.url() + ":161"
	}
	oid := r.one("1.3.6.1.2.1.1.1.0", "1.3.6.1.2.1.1.3.0", "1.3.6.1.2.1.1.5.0", "1.3.6.1.2.1.2.2.1."+r.number(20)+".1", "1.3.6.1.2.1.25.1.1.0", "1.3.6.1.4.1.2021.10.1.3.1")
	common := []string{"-r", "0", "-t", "2", "-v", r.one("1", "2c"), "-c", r.one("public", "lab", "public", r.word())}
	if r.chance(0.25) {
		common = []string{"-r", "0", "-t", "2", "-v", "3", "-u", r.one("reader", r.word()), "-l", r.one("authPriv", "authNoPriv"), "-a", "SHA", "-A", "labsecret1", "-x", "AES", "-X", "labsecret2"}
	}
	switch r.rng.IntN(4) {
	case 0:
		return append(append([]string{"snmpgetnext"}, common...), agent, oid), ""
	case 1:
		return append(append([]string{"snmpwalk"}, common...), agent, "1.3.6.1.2.1.1"), ""
	case 2:
		return append(append([]string{"snmpget"}, common...), agent, oid, "1.3.6.1.2.1.1."+fmt.Sprint(1+r.rng.IntN(6))+".0"), ""
	}
	return append(append([]string{"snmpget"}, common...), agent, oid), ""
}

func ftp(r *requests) ([]string, string) {
	url := "ftp://" + r.url() + ":" + r.one("21", "2121") + r.one("/", "/f10.txt", "/f1200.txt", "/f9000.txt", "/"+r.word())
	args := curl("--disable-eprt", "--ftp-method", r.one("nocwd", "multicwd"))
	switch r.rng.IntN(4) {
	case 0:
		args = append(args, "-I")
	case 1:
		args = append(args, "-l")
	}
	if r.chance(0.4) {
		args = append(args, "--user", r.one("anonymous", "ftp", r.word())+":"+r.word())
	}
	return append(args, url), ""
}

func sip(r *requests) ([]string, string) {
	port, transport, scenario := "5060", "u1", []string{"-sn", "uac"}
	switch {
	case r.chance(0.5):
		port, scenario = "5062", []string{"-sf", r.files + "/" + r.one("options.xml", "register.xml")}
	case !r.v6() && r.chance(0.4):
		port, transport = "5061", "t1"
	}
	args := []string{"sipp", r.url() + ":" + port, "-t", transport, "-m", "1", "-nostdin", "-timeout", "4s", "-nd",
		"-s", r.word(), "-d", r.number(200), "-p", fmt.Sprint(10000 + r.rng.IntN(20000))}
	return append(args, scenario...), ""
}

func memcached(r *requests) ([]string, string) {
	server := "--servers=" + r.addr + ":11211"
	if r.v6() || r.chance(0.4) {
		value := r.text(300)
		command := r.one("version\r\n", "stats\r\n", "get "+r.word()+"\r\n", "gets "+r.word()+" "+r.word()+"\r\n", "delete "+r.word()+"\r\n", "incr "+r.word()+" 1\r\n",
			fmt.Sprintf("set %s 0 %d %d\r\n%s\r\n", r.word(), r.rng.IntN(900), len(value), value))
		return []string{"ncat", "-w", "2", r.addr, "11211"}, command + "quit\r\n"
	}
	args := []string{r.one("memccat", "memcstat", "memcping", "memcexist", "memcrm"), server}
	if r.chance(0.4) {
		args = append(args, "--binary")
	}
	switch args[0] {
	case "memcstat", "memcping":
		return args, ""
	}
	return append(args, r.word()), ""
}

func syslog(r *requests) ([]string, string) {
	args := []string{"logger", "-n", r.addr, "-P", "514", r.one("--rfc3164", "--rfc5424", "--rfc5424"), "-t", r.word(),
		"-p", r.one("auth", "daemon", "local0", "local7", "mail", "user", "kern") + "." + r.one("info", "err", "debug", "notice", "crit")}
	if r.chance(0.25) {
		args = append(args, "-T")
	} else {
		args = append(args, "-d")
	}
	message := r.text(400)
	for r.chance(0.5) {
		message += "\n" + r.text(200)
	}
	return args, message
}

func tftp(r *requests) ([]string, string) {
	args := curl("tftp://" + r.url() + "/" + r.one("f10.txt", "f300.txt", "f1200.txt", "f9000.txt", r.word()+".bin"))
	if r.chance(0.4) {
		args = append(args, "--tftp-no-options")
	} else if r.chance(0.5) {
		args = append(args, "--tftp-blksize", r.one("512", "800", "1024"))
	}
	return args, ""
}

func imap(r *requests) ([]string, string) {
	args := curl("imap://"+r.url()+"/"+r.one("", "INBOX", r.word()), "--user", r.word()+":"+r.one("secret", "secret", r.word()))
	if r.chance(0.3) {
		args = append(args, "--login-options", "AUTH="+r.one("PLAIN", "LOGIN"))
	}
	if r.chance(0.3) {
		args = append(args, "-X", r.one("NOOP", "CAPABILITY", "EXAMINE INBOX", "STATUS INBOX (MESSAGES)"))
	}
	return args, ""
}

func pop3(r *requests) ([]string, string) {
	args := curl("pop3://"+r.url()+"/"+r.one("", "1"), "--user", r.word()+":"+r.one("secret", "secret", r.word()))
	if r.chance(0.3) {
		args = append(args, "-X", r.one("STAT", "UIDL", "NOOP", "CAPA"))
	}
	return args, ""
}

func ldap(r *requests) ([]string, string) {
	args := []string{"ldapsearch", "-LLL", "-o", "nettimeout=3", "-H", "ldap://" + r.url()}
	if r.chance(0.2) {
		args = append(args, "-P", "2")
	}
	if r.chance(0.5) {
		args = append(args, "-x", "-D", r.one("cn=admin,dc=lab", "uid="+r.word()+",dc=lab"), "-w", r.one("secret", r.word()))
	} else {
		args = append(args, "-x")
	}
	return append(args, "-b", r.one("", "dc=lab", "ou="+r.word()+",dc=lab"), "-s", r.one("base", "sub", "one"),
		"("+r.one("objectClass=*", "uid="+r.word(), "cn="+r.word()+"*")+")", r.one("cn", "+", "mail", "supportedLDAPVersion")), ""
}

func radius(r *requests) ([]string, string) {
	attributes := "User-Name = \"" + r.one("lab", r.word()) + "\"\n" + r.one("User-Password", "CHAP-Password") + " = \"" + r.one("secret", r.word()) + "\"\n"
	if r.chance(0.7) {
		attributes += "NAS-IP-Address = 10.1." + r.number(200) + "." + r.number(200) + "\n"
	}
	if r.chance(0.5) {
		attributes += "NAS-Port = " + r.number(500) + "\n"
	}
	if r.chance(0.5) {
		attributes += "Calling-Station-Id = \"" + r.word() + "\"\n"
	}
	kind := "auth"
	if r.chance(0.15) {
		kind, attributes = "status", "Message-Authenticator = 0x00\n"
	}
	return []string{"radclient", "-r", "1", "-t", "3", r.url() + ":1812", kind, "labsecret"}, attributes
}

func stun(r *requests) ([]string, string) {
	if !r.v6() && r.chance(0.4) {
		return []string{"stun", r.addr, r.one("1", "2", "6")}, ""
	}
	return []string{"turnutils_stunclient", "-p", "3478", r.addr}, ""
}
