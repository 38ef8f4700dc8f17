"""Token sequences of labelled flows: a capture and its CSV in, arrays out.

This is the traffic contract "nepco-bytes" (and, with token_bytes=2 and length=128, "nepco") written a second
time, from its description alone, so that training doesn't depend on the program that serves the model:
the first 5 packets of a flow, each from its IP header on, cut to the IP length and to 128 bytes, addresses,
ports and checksums zero; [CLS]=2, the bytes as 5 + value, [SEP]=1 if there is room, [PAD]=0.

    python3 flows.py CAPTURE.pcap LABELS.csv [EXPECTED.npz [TOKEN_BYTES LENGTH]]

prints what it read, a digest of the tokens (rows in the CSV's order, as little-endian 32-bit numbers;
contract_test.go compares it with the agent's), and, given arrays "src" and "seg", whether they are the same.
"""
import csv
import hashlib
import ipaddress
import struct
import sys

import numpy as np

PACKETS, BYTES, IDLE_US = 5, 128, 120_000_000
PAD, SEP, CLS, OFFSET = 0, 1, 2, 5
TCP, UDP = 6, 17
EXTENSION_HEADERS = {0, 43, 60}  # hop-by-hop, routing, destination options


def read_pcap(path):
    """Yields (time in microseconds, Ethernet frame) of a classic pcap file."""
    with open(path, "rb") as f:
        head = f.read(24)
        order = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">"}.get(head[:4])
        if order is None or len(head) < 24:
            raise SystemExit(f"{path}: not a pcap file with microseconds")
        if struct.unpack(order + "I", head[20:24])[0] != 1:
            raise SystemExit(f"{path}: not a capture of Ethernet frames")
        while record := f.read(16):
            if len(record) < 16:
                raise SystemExit(f"{path}: cut within a packet header")
            sec, usec, length, _ = struct.unpack(order + "4I", record)
            yield sec * 1_000_000 + usec, f.read(length)


def ip_packet(frame):
    """The packet from its IP header on, without link-layer padding; None if the frame holds none."""
    at, kind = 14, frame[12:14]
    while kind in (b"\x81\x00", b"\x88\xa8"):
        kind, at = frame[at + 2 : at + 4], at + 4
    ip = frame[at:]
    if kind == b"\x08\x00" and len(ip) >= 20:
        return ip[: int.from_bytes(ip[2:4], "big")]
    if kind == b"\x86\xdd" and len(ip) >= 40:
        return ip[: 40 + int.from_bytes(ip[4:6], "big")]
    return None


def transport(ip):
    """(protocol, offset of its header), offset 0 where the packet has none (a later fragment)."""
    if ip[0] >> 4 == 4:
        later = int.from_bytes(ip[6:8], "big") & 0x1FFF
        return ip[9], 0 if later else (ip[0] & 15) * 4
    proto, at = ip[6], 40
    while proto in EXTENSION_HEADERS and at + 2 <= len(ip):
        proto, at = ip[at], at + 8 + 8 * ip[at + 1]
    return proto, at


def blanked(ip):
    b = bytearray(ip)
    proto, at = transport(ip)

    def zero(start, end):
        end = min(end, len(b))
        if start < end:
            b[start:end] = bytes(end - start)

    if ip[0] >> 4 == 4:
        zero(10, 20)  # header checksum and addresses
    else:
        zero(8, 40)
    if at and proto in (TCP, UDP):
        zero(at, at + 4)
        checksum = at + (16 if proto == TCP else 6)
        zero(checksum, checksum + 2)
    return bytes(b[:BYTES])


def read_flows(path):
    """Flows of a capture: {(protocol, address, port, address, port, time of the first packet): [packet]}."""
    flows, live = {}, {}
    for time, frame in read_pcap(path):
        ip = ip_packet(frame)
        if ip is None:
            continue
        proto, at = transport(ip)
        if proto not in (TCP, UDP) or not at or len(ip) < at + 4:
            continue
        addresses = (ip[12:16], ip[16:20]) if ip[0] >> 4 == 4 else (ip[8:24], ip[24:40])
        source, target = (addresses[0], ip[at : at + 2]), (addresses[1], ip[at + 2 : at + 4])
        pair = (proto, *sorted((source, target)))
        name, last = live.get(pair, (None, 0))
        if name is None or time - last > IDLE_US:
            name = (proto, *source, *target, time)
            flows[name] = []
        live[pair] = (name, time)
        flows[name].append(ip)
    return flows


def tokens(packets, token_bytes, length):
    row = [CLS]
    for ip in packets[:PACKETS]:
        b = blanked(ip)
        b += bytes(-len(b) % token_bytes)
        row += [OFFSET + int.from_bytes(b[i : i + token_bytes], "big") for i in range(0, len(b), token_bytes)]
    row = row[:length]
    if len(row) < length:
        row.append(SEP)
    return row + [PAD] * (length - len(row))


def load(pcap, labels, token_bytes=1, length=256):
    """(src, seg, labels as text, rows of the CSV), row for row the CSV's flows."""
    flows = read_flows(pcap)
    src, names, rows = [], [], []
    with open(labels, newline="") as f:
        for line, row in enumerate(csv.DictReader(f), 2):
            sec, usec = row["time"].split(".")
            name = (int(row["proto"]),
                    ipaddress.ip_address(row["src"]).packed, int(row["sport"]).to_bytes(2, "big"),
                    ipaddress.ip_address(row["dst"]).packed, int(row["dport"]).to_bytes(2, "big"),
                    int(sec) * 1_000_000 + int(usec))
            if name not in flows:
                raise SystemExit(f"{labels}:{line}: no such flow in {pcap}")
            src.append(tokens(flows[name], token_bytes, length))
            names.append(row["label"])
            rows.append(row)
    src = np.array(src, np.int64)
    return src, (src != PAD).astype(np.int64), names, rows


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4, 6):
        raise SystemExit(__doc__)
    shape = (int(sys.argv[4]), int(sys.argv[5])) if len(sys.argv) == 6 else (1, 256)
    src, seg, names, _ = load(sys.argv[1], sys.argv[2], *shape)
    print(f"{len(src)} flows, {len(set(names))} labels, {seg.sum(1).mean():.0f} tokens on average")
    print("SHA-256 of the tokens", hashlib.sha256(src.astype("<u4").tobytes()).hexdigest())
    if len(sys.argv) > 3:
        want = np.load(sys.argv[3])
        for key, got in (("src", src), ("seg", seg)):
            same = want[key].shape == got.shape and (want[key] == got).all()
            print(key, "is the same" if same else "DIFFERS")
