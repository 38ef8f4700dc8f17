package main

// captureCase is a run over a capture, what its closing line must say, and how many flows it must print.
func captureCase(file, counts string, flags ...string) caseRow {
	return caseRow{
		file: file, args: append([]string{"run", "$DEMO", "$F"}, flags...),
		want: []string{`nepcoc: .*: ` + counts},
	}
}

func init() {
	caseFolders = append(caseFolders, "captures", "02-tso-zero-length", "17-pcapng")
	caseElsewhere["captures/MANIFEST.json"] = "describes the cases"
	caseElsewhere["17-pcapng/*.pcapng"] = "package capture: TestTimesAreExact"
	for _, c := range []struct{ file, counts string }{
		{"captures/ipv6_snaplen68.pcap", "193 packets = 193 decoded .* 15 flows"},
		{"captures/bigtcp_ipv6.pcap", "1 packet = 1 decoded .* 1 flow = "},
		{"captures/cisco_cmd_sgt_first60.pcap", "60 packets = 60 decoded .* 4 flows"},
		{"captures/pppoe_http.pcap", "30 packets = 30 decoded .* 1 flow = "},
		{"captures/llc_snap_ip.pcap", "8 packets = 8 decoded .* 1 flow = "},
		{"captures/tiny_fragments_tcp_syn.pcap", "3 packets = .* 1 flow = "},
		{"captures/fritzbox_modified_magic.pcap", "5 packets = 5 decoded .* 3 flows"},
		{"captures/radiotap_in_pcapng.pcapng", "5 packets = 0 decoded .*ignored_link_type 5"},
		{"captures/quiet_tail_of_stp.pcap", "187 packets = 5 decoded .* 3 flows .*ignored_llc 138"},
		{"captures/pcapng_sections_times.pcapng", "8 packets = 8 decoded .* 3 flows"},
		{"captures/usec_over_one_million.pcap", "81 packets = 81 decoded .* 4 flows"},
		{"captures/ipv6_50_extension_headers.pcap", "1 packet = 1 decoded .* 1 flow = "},
		{"captures/nflog.pcap", "1 packet = 1 decoded .* 1 flow = "},
		{"captures/ipoib.pcap", "30 packets = 20 decoded .* 6 flows .*ignored_arp 4, ignored_icmp 6"},
		{"captures/arista_timestamps.pcap", "16 packets = 0 decoded .*ignored_transport 16"},
		{"captures/pcapng.zst", "159 packets = 159 decoded"},
		{"captures/pcap.gz", "1 packet = 1 decoded .* 1 flow = "},
		{"captures/erspan_ii.pcap", "16 packets = 0 decoded .*ignored_gre 16, in_erspan_tunnel 16"},
		{"captures/geneve.pcap", "1 packet = 1 decoded .*in_geneve_tunnel 1"},
		{"captures/vxlan_same_tuple_two_vni.pcap", "42 packets = 42 decoded .* 2 flows .*in_vxlan_tunnel 28"},
	} {
		caseRows = append(caseRows, captureCase(c.file, c.counts))
	}
	for _, f := range []string{"v4len", "v4tso", "v6tso", "v6-http-first-data-zero", "v6-ssh-first-data-zero"} {
		caseRows = append(caseRows, captureCase("02-tso-zero-length/"+f+".pcap", "8 packets = 8 decoded .* 1 flow = "))
	}
	caseRows = append(caseRows,
		captureCase("captures/erspan_ii.pcap", "16 packets = 16 decoded .* 4 flows", "--tunnels"),
		captureCase("captures/geneve.pcap", "1 packet = 1 decoded .* 1 flow = ", "--tunnels"),
		captureCase("captures/vxlan_same_tuple_two_vni.pcap", "42 packets = 42 decoded .* 3 flows", "--tunnels"),
		// Several files are one input.
		captureCase("captures/pcap.gz", `31 packets = 31 decoded .* 2 flows`, "$CASES/captures/pppoe_http.pcap"),
	)
	caseRows = append(caseRows, caseRow{
		file: "captures/radiotap_in_pcapng.pcapng", args: []string{"run", "$DEMO", "$F"},
		want: []string{`5 packets are of link type 127 \(802.11 with radiotap\), which is not read`},
	}, caseRow{
		file: "captures/ipv6_snaplen68.pcap", args: []string{"run", "$DEMO", "$F"},
		want: []string{`\d+ of \d+ packets were captured cut below the \d+ bytes that the traffic contract takes of each`},
	})
}
