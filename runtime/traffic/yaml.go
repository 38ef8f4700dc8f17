package traffic

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"nepcoc/internal/filekind"
	"nepcoc/internal/files"
)

// maxFile bounds a contract file. A real one has under 1 kB.
const maxFile = 64 << 10

// field is one key of the file: how it is printed and read. The order of this
// table is the order of the canonical form.
//
// All versions of the file are read. A field that comes later is of a new version
// (since); its zero value must mean what contracts without it mean. A
// contract is written in the oldest version that can say it, so that contracts of today keep
// their bytes and their hash.
type field struct {
	name  string
	get   func(*Contract) string
	set   func(*Contract, *yaml.Node) error
	since int // the version of the file that it came with; 0 is 1
	// Of some fields, words came later: newWord gives the first of those that a contract has.
	wordsSince int
	newWord    func(*Contract) string
}

var fields = []field{
	words(3, strField("first_layer", func(c *Contract) *string { return &c.FirstLayer }), func(c *Contract) string {
		if c.FirstLayer == LayerEthernet || c.FirstLayer == LayerPayload {
			return c.FirstLayer
		}
		return ""
	}),
	intField("packets", func(c *Contract) *int { return &c.Packets }),
	intField("bytes_per_packet", func(c *Contract) *int { return &c.BytesPerPacket }),
	words(3, listField("blank", "[addresses, ports, checksums]", true, func(c *Contract) *[]Blank { return &c.Blank }), func(c *Contract) string {
		for _, b := range c.Blank {
			if i := b.index(); i >= 0 && blanks[i].since > 1 {
				return string(b)
			}
		}
		return ""
	}),
	strField("encoding", func(c *Contract) *Encoding { return &c.Encoding }),
	intField("token_bytes", func(c *Contract) *int { return &c.TokenBytes }),
	intField("length", func(c *Contract) *int { return &c.Length }),
	intField("value_offset", func(c *Contract) *int { return &c.ValueOffset }),
	intField("pad", func(c *Contract) *int { return &c.Pad }),
	specialField("cls", func(c *Contract) (*bool, *int) { return &c.UseCLS, &c.CLS }),
	specialField("sep", func(c *Contract) (*bool, *int) { return &c.UseSEP, &c.SEP }),
	durField("close_linger", func(c *Contract) *time.Duration { return &c.CloseLinger }),
	durField("idle", func(c *Contract) *time.Duration { return &c.Idle }),
	later(2, choiceField("view", viewNames, func(c *Contract) *View { return &c.View })),
	later(2, choiceField("accept", acceptNames, func(c *Contract) *Accept { return &c.Accept })),
	later(2, intField("client_bytes", func(c *Contract) *int { return &c.ClientBytes })),
	later(2, intField("server_bytes", func(c *Contract) *int { return &c.ServerBytes })),
	later(2, intField("enough_bytes", func(c *Contract) *int { return &c.EnoughBytes })),
	later(2, durField("quiet", func(c *Contract) *time.Duration { return &c.Quiet })),
	later(3, choiceField("far_ttl", farTTLNames, func(c *Contract) *FarTTL { return &c.FarTTL })),
	later(3, choiceField("empty_packets", emptyNames, func(c *Contract) *Empty { return &c.Empty })),
	later(3, intField("header_bytes", func(c *Contract) *int { return &c.HeaderBytes })),
	later(3, listField("packet_tokens", "[direction, length]", false, func(c *Contract) *[]PacketToken { return &c.PacketTokens })),
	later(3, field{
		name: "byte_ids",
		get: func(c *Contract) string {
			if c.ByteIDs == nil {
				return "none"
			}
			ids := make([]string, len(c.ByteIDs))
			for i, id := range c.ByteIDs {
				ids[i] = strconv.Itoa(id)
			}
			return "[" + strings.Join(ids, ", ") + "]"
		},
		set: func(c *Contract, n *yaml.Node) error {
			if c.ByteIDs = nil; n.Kind == yaml.ScalarNode && n.Value == "none" {
				return nil
			}
			if n.Kind != yaml.SequenceNode {
				return errors.New("must be none, or a list of 256 ids")
			}
			c.ByteIDs = make([]int, len(n.Content))
			for i, item := range n.Content {
				id, err := nodeInt(item)
				if err != nil {
					return fmt.Errorf("that of byte %d %w", i, err)
				}
				c.ByteIDs[i] = id
			}
			return nil
		},
	}),
	later(4, listField("numbers", "[length, direction, gap]", false, func(c *Contract) *[]Number { return &c.Numbers })),
}

// words makes f a field of which some words came with a newer version of the file: used gives the first of them that a
// contract has.
func words(version int, f field, used func(*Contract) string) field {
	f.wordsSince, f.newWord = version, used
	return f
}

// version is the first version of the file that can say what a contract has in a field.
func (f *field) version(c *Contract) int {
	v := 1
	if f.get(c) != f.get(&Contract{}) {
		v = max(v, f.since)
	}
	if f.newWord != nil && f.newWord(c) != "" {
		v = max(v, f.wordsSince)
	}
	return v
}

// listField is a list of words; sorted, where their order has no meaning.
func listField[T ~string](name, like string, sorted bool, p func(*Contract) *[]T) field {
	return field{name: name,
		get: func(c *Contract) string {
			names := make([]string, len(*p(c)))
			for i, w := range *p(c) {
				names[i] = string(w)
			}
			if sorted {
				sort.Strings(names)
			}
			return "[" + strings.Join(names, ", ") + "]"
		},
		set: func(c *Contract, n *yaml.Node) error {
			if n.Kind != yaml.SequenceNode {
				return errors.New("must be a list, like " + like)
			}
			*p(c) = nil
			for _, item := range n.Content {
				if item.Kind != yaml.ScalarNode {
					return errors.New("must be a list of names, like " + like)
				}
				*p(c) = append(*p(c), T(item.Value))
			}
			return nil
		}}
}

// later makes f a field of a newer version of the file.
func later(version int, f field) field { f.since = version; return f }

// choiceField is one of a few words, in the order of their values.
func choiceField[T ~int](name string, words []string, p func(*Contract) *T) field {
	return field{name: name,
		get: func(c *Contract) string { return words[*p(c)] },
		set: func(c *Contract, n *yaml.Node) error {
			i := slices.Index(words, n.Value)
			if n.Kind != yaml.ScalarNode || i < 0 {
				return fmt.Errorf("%q is none of %s", clip(n.Value), strings.Join(words, ", "))
			}
			*p(c) = T(i)
			return nil
		}}
}

func strField[T ~string](name string, p func(*Contract) *T) field {
	return field{name: name,
		get: func(c *Contract) string { return string(*p(c)) },
		set: func(c *Contract, n *yaml.Node) error {
			if n.Kind != yaml.ScalarNode {
				return errors.New("must be a word")
			}
			*p(c) = T(n.Value)
			return nil
		}}
}

func nodeInt(n *yaml.Node) (int, error) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" {
		return 0, errors.New("must be a whole number")
	}
	v, err := strconv.ParseInt(n.Value, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not a decimal number of reasonable size", clip(n.Value))
	}
	return int(v), nil
}

func intField(name string, p func(*Contract) *int) field {
	return field{name: name,
		get: func(c *Contract) string { return strconv.Itoa(*p(c)) },
		set: func(c *Contract, n *yaml.Node) (err error) { *p(c), err = nodeInt(n); return err }}
}

// specialField is a token id that may be absent, written "none".
func specialField(name string, p func(*Contract) (*bool, *int)) field {
	return field{name: name,
		get: func(c *Contract) string {
			use, id := p(c)
			if !*use {
				return "none"
			}
			return strconv.Itoa(*id)
		},
		set: func(c *Contract, n *yaml.Node) (err error) {
			use, id := p(c)
			if n.Kind == yaml.ScalarNode && n.Value == "none" {
				*use, *id = false, 0
				return nil
			}
			*use = true
			if *id, err = nodeInt(n); err != nil {
				return errors.New("must be a token id or none")
			}
			return nil
		}}
}

func durField(name string, p func(*Contract) *time.Duration) field {
	return field{name: name,
		// Milliseconds are the unit that Validate insists on, so one spelling
		// stands for one duration.
		get: func(c *Contract) string { return strconv.FormatInt(p(c).Milliseconds(), 10) + "ms" },
		set: func(c *Contract, n *yaml.Node) error {
			if n.Kind != yaml.ScalarNode {
				return errors.New("must be a duration, like 120s")
			}
			d, err := time.ParseDuration(n.Value)
			if err != nil {
				return fmt.Errorf("%q is not a duration, like 120s", clip(n.Value))
			}
			*p(c) = d
			return nil
		}}
}

// clip keeps a message readable when the file isn't.
func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}

// Canonical is the contract's one spelling: every field that defines the
// sequence, in a fixed order, and no name or comment. Parse reads it back.
func (c *Contract) Canonical() []byte {
	var b bytes.Buffer
	version := 1
	for _, f := range fields {
		version = max(version, f.version(c))
	}
	fmt.Fprintf(&b, "nepco_traffic: %d\n", version)
	for _, f := range fields {
		if f.since <= version {
			fmt.Fprintf(&b, "%s: %s\n", f.name, f.get(c))
		}
	}
	return b.Bytes()
}

// newest is the newest version of the file, the last that is read.
func newest() int {
	version := 1
	for _, f := range fields {
		version = max(version, f.since, f.wordsSince)
	}
	return version
}

// YAML is a contract file: the name, then the canonical form.
func (c *Contract) YAML() []byte {
	head, body, _ := bytes.Cut(c.Canonical(), []byte("\n"))
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n", head)
	if c.Name != "" {
		fmt.Fprintf(&b, "name: %s\n", strconv.Quote(c.Name))
	}
	b.Write(body)
	return b.Bytes()
}

// ReadFile reads a contract file.
func ReadFile(path string) (Contract, error) {
	return files.Read(path, func(name string, r io.Reader) (Contract, error) {
		data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
		if err != nil {
			return Contract{}, fmt.Errorf("traffic contract: %w", err)
		}
		return Parse(name, data)
	})
}

// Load takes what a user gives for a contract: the name of a built-in one, or
// a file.
func Load(nameOrPath string) (Contract, error) {
	if c, err := Named(nameOrPath); err == nil {
		return c, nil
	}
	if _, err := os.Stat(nameOrPath); err != nil && !files.IsStdin(nameOrPath) && !strings.ContainsAny(nameOrPath, `/\.`) {
		return Named(nameOrPath) // neither: say which names there are
	}
	return ReadFile(nameOrPath)
}

// Parse reads a contract. file is for messages. Every field of the file's version must be there and
// none unknown: a default that changes with the program's version would change
// what a model is fed.
func Parse(file string, data []byte) (Contract, error) {
	c, line, err := parse(data)
	if err == nil {
		return c, nil
	}
	hint := filekind.Hint(file, data[:min(len(data), filekind.Head)], filekind.Contract, filekind.Text)
	if hint != "" {
		return Contract{}, fmt.Errorf("%s: not a traffic contract%s", file, hint)
	}
	if line > 0 {
		file = fmt.Sprintf("%s:%d", file, line)
	}
	return Contract{}, fmt.Errorf("%s: traffic contract: %w", file, err)
}

func parse(data []byte) (c Contract, line int, err error) {
	if len(data) > maxFile {
		return c, 0, fmt.Errorf("longer than %d kB: is this a contract file?", maxFile>>10)
	}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); err == io.EOF {
		return c, 0, errors.New("the file is empty")
	} else if err != nil {
		return c, 0, fmt.Errorf("not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := dec.Decode(new(yaml.Node)); err != io.EOF {
		return c, 0, errors.New("more than one YAML document: a file holds one contract")
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return c, doc.Line, errors.New("must be a mapping of field names to values; nepcoc's built-in contracts show the form")
	}
	m := doc.Content[0].Content
	lines := map[string]int{}
	for i := 0; i < len(m); i += 2 {
		key := m[i]
		if key.Kind != yaml.ScalarNode {
			return c, key.Line, errors.New("a field's name must be a word")
		}
		if before := lines[key.Value]; before != 0 {
			return c, key.Line, fmt.Errorf("%s: given twice, first on line %d", clip(key.Value), before)
		}
		lines[key.Value] = key.Line
	}
	// The version goes first: of a newer version, unknown fields are expected.
	version := 0
	for i := 0; i < len(m); i += 2 {
		if m[i].Value != "nepco_traffic" {
			continue
		}
		v, err := nodeInt(m[i+1])
		if err != nil {
			return c, m[i].Line, fmt.Errorf("nepco_traffic: %w", err)
		}
		switch version = v; {
		case v < 1:
			return c, m[i].Line, fmt.Errorf("nepco_traffic: version %d does not exist", v)
		case v > newest():
			return c, m[i].Line, fmt.Errorf("written for a newer program (nepco_traffic: %d; this program reads 1 to %d): update nepcoc and nepcod", v, newest())
		}
	}
	if lines["nepco_traffic"] == 0 {
		return c, 0, fmt.Errorf("nepco_traffic is missing: begin with nepco_traffic: %d", newest())
	}
	for i := 0; i < len(m); i += 2 {
		key, val := m[i].Value, m[i+1]
		switch key {
		case "nepco_traffic":
			continue
		case "name":
			if val.Kind != yaml.ScalarNode || len(val.Value) > 100 {
				return c, m[i].Line, errors.New("name: must be a short text")
			}
			c.Name = val.Value
			continue
		}
		f := findField(key)
		if f == nil {
			return c, m[i].Line, fmt.Errorf("unknown field %q; known: name, %s", clip(key), fieldNames())
		}
		if f.since > version {
			return c, m[i].Line, fmt.Errorf("%s came with nepco_traffic: %d, the file says %d: write that version, and all of its fields", key, f.since, version)
		}
		if err := f.set(&c, val); err != nil {
			return c, m[i].Line, fmt.Errorf("%s: %w", key, err)
		}
		if f.newWord != nil && f.wordsSince > version {
			if word := f.newWord(&c); word != "" {
				return c, m[i].Line, fmt.Errorf("%s: %s came with nepco_traffic: %d, the file says %d: write that version, and all of its fields", key, word, f.wordsSince, version)
			}
		}
	}
	for _, f := range fields {
		if f.since <= version && lines[f.name] == 0 {
			return c, 0, fmt.Errorf("%s is missing: every field must be given", f.name)
		}
	}
	if err := c.check(); err != nil {
		var fe *fieldError
		if errors.As(err, &fe) {
			line = lines[fe.field]
		}
		return c, line, err
	}
	return c, 0, nil
}

func findField(name string) *field {
	for i := range fields {
		if fields[i].name == name {
			return &fields[i]
		}
	}
	return nil
}

func fieldNames() string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return strings.Join(names, ", ")
}
