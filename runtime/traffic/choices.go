package traffic

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Choice is one field of a contract, as people are shown it.
type Choice struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Default string `json:"default"` // of the built-in nepco, or, in the stream view, of nepco-stream
	Since   int    `json:"since"`   // the version of the file that it came with
	Doc     string `json:"doc"`
}

// Shortened keeps a value, which may be a list of hundreds of ids, from filling a line: at most 60 bytes of it.
func Shortened(value string) string {
	const most = 60
	if len(value) > most {
		return value[:most-3] + "..."
	}
	return value
}

// docs say what each field means, in a line.
var docs = map[string]string{
	"first_layer":      "where a packet's bytes begin: ethernet (destination, source, type; VLAN tags and the like are left out), ip, or payload (what TCP or UDP carry)",
	"packets":          "packets of a flow that enter; 0 in the stream view",
	"bytes_per_packet": "bytes of a packet that enter, from its first layer on; 0 in the stream view",
	"blank":            "fields that are set to zero, and so tell a model nothing; see the table of them",
	"encoding":         "what the model's input holds: token (ids), byte (0..255), byte/255, or (byte-MEAN)/DEVIATION",
	"token_bytes":      "bytes of a token, 1 or 2 (big endian)",
	"length":           "tokens of a sequence, with cls, sep and padding",
	"value_offset":     "the id of a token is value_offset + its value",
	"pad":              "the id that fills a sequence up",
	"cls":              "the id in front of all, or none",
	"sep":              "the id behind the last byte where there is room, or none",
	"close_linger":     "how long after a FIN or RST a flow is ready, since some go on for a packet or two",
	"idle":             "how long a flow is quiet before it is ready, and before it ends",
	"view":             "what a sequence is made of: packets, or stream (the first bytes that each side sent, however they were cut, ordered or repeated)",
	"accept":           "which packets count: all, as they come, or hosts (what their receiver takes and what carries something new)",
	"client_bytes":     "stream view: bytes of the client that enter",
	"server_bytes":     "stream view: bytes of the server that enter",
	"enough_bytes":     "stream view: so many bytes of one side are enough, and the other's are no longer waited for",
	"quiet":            "stream view: how long a flow is quiet before it is ready once both sides have spoken",
	"far_ttl":          "accept hosts: what becomes of packets whose hop limit is so small that they may not arrive: mark (they count) or drop",
	"empty_packets":    "accept hosts, packets view: whether packets without payload enter: keep or skip",
	"header_bytes":     "of bytes_per_packet, how many are for headers at most; the others are for payload, however long the headers are. 0: bytes as they come",
	"packet_tokens":    "facts that stand as tokens in front of each packet's bytes, in this order: direction (client or server), length (of its payload, as the number of bits of that)",
	"numbers":          "packets view: numbers of each packet that stand beside the sequence, for models with an input of their own: length (bytes of its payload), direction (1 from the client, 2 from the server), gap (the time since the packet before, as the number of bits of its microseconds); 0 where no packet came. A flow then waits for all its packets",
	"byte_ids":         "the ids of the 256 byte values, in place of value_offset + value, or none",
}

// Choices are a contract's fields, in the order of the file.
func (c *Contract) Choices() []Choice {
	base := Default()
	if c.View == ViewStream {
		base, _ = Named("nepco-stream")
	}
	list := make([]Choice, len(fields))
	for i, f := range fields {
		list[i] = Choice{Name: f.name, Value: f.get(c), Default: f.get(&base), Since: max(1, f.since), Doc: docs[f.name]}
	}
	return list
}

// BlankChoice is a group of fields that can be blanked, as people are shown it.
type BlankChoice struct {
	Word  string `json:"word"`
	Since int    `json:"since"`
	Doc   string `json:"doc"`
}

// BlankChoices are all groups that can be blanked.
func BlankChoices() (list []BlankChoice) {
	for _, b := range blanks {
		list = append(list, BlankChoice{string(b.word), b.since, b.doc})
	}
	return list
}

// commentWidth is where the lines of a file's comments are broken.
const commentWidth = 110

// Commented is a contract file of the newest version, with what each field means. Parse reads the same
// contract from it: its hash is that of the oldest version that can say it.
func (c *Contract) Commented() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# A traffic contract: which bytes of a flow a model sees. Every field must be there; nepcoc contract show\n# prints them with their defaults, nepcoc contract explain what they make of a capture.\n")
	fmt.Fprintf(&b, "nepco_traffic: %d\n", newest())
	if c.Name != "" {
		fmt.Fprintf(&b, "name: %s\n", strconv.Quote(c.Name))
	}
	for _, choice := range c.Choices() {
		b.WriteByte('\n')
		for _, line := range fold(choice.Doc, commentWidth) {
			fmt.Fprintf(&b, "# %s\n", line)
		}
		if choice.Name == "blank" {
			width := 0
			for _, w := range blanks {
				width = max(width, len(w.word))
			}
			for _, w := range blanks {
				fmt.Fprintf(&b, "#   %-*s %s\n", width, w.word, w.doc)
			}
		}
		if choice.Value != choice.Default {
			fmt.Fprintf(&b, "# default: %s\n", choice.Default)
		}
		fmt.Fprintf(&b, "%s: %s\n", choice.Name, choice.Value)
	}
	return b.Bytes()
}

// fold breaks a text into lines of a width.
func fold(text string, width int) (lines []string) {
	line := ""
	for word := range slices.Values(strings.Fields(text)) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
