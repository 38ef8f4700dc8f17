package bundle

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var content = cmp.Options{
	cmpopts.IgnoreFields(Bundle{}, "Digest", "Signature"),
	cmpopts.EquateEmpty(),
}

func TestRoundTrip(t *testing.T) {
	for _, o := range []Options{{}, {Mappable: true}} {
		b := small()
		data := mustEncode(t, b, o)
		got, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(b, got, content); d != "" {
			t.Errorf("%+v: decoded differs (-want +got):\n%s", o, d)
		}
		if !bytes.Equal(mustEncode(t, got, o), data) {
			t.Errorf("%+v: encoding again gives other bytes", o)
		}
		for i := range got.Program.Tensors {
			if !isAligned(got.Program.Tensors[i].Data) {
				t.Errorf("%+v: tensor %d is not aligned", o, i)
			}
		}
		if o.Mappable {
			c, err := parse(data)
			if err != nil {
				t.Fatal(err)
			}
			if at := c.find(weightsSection).offset; at%mapAlign != 0 {
				t.Errorf("weights at %d", at)
			}
		}
	}
}

// The digest of the hand-made bundle, on every machine. It changes with the
// format (then FormatVersion changes too) or with the zstd encoder.
const smallDigest = "b124d0af78bad316fe62cc083ffd611c33fa97deadd2e9985625c68fe5430a7e"

func TestDeterministic(t *testing.T) {
	data := mustEncode(t, small(), Options{})
	for range 3 {
		if !bytes.Equal(mustEncode(t, small(), Options{}), data) {
			t.Fatal("two encodings differ")
		}
	}
	d := sha256.Sum256(data)
	if got := hex.EncodeToString(d[:]); got != smallDigest {
		t.Errorf("SHA-256 of the file is %s, want %s", got, smallDigest)
	}
}

func TestEveryBitCounts(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	for name, o := range map[string]Options{"plain": {}, "signed": {Key: key}} {
		data := mustEncode(t, small(), o)
		for i := range data {
			for bit := range 8 {
				data[i] ^= 1 << bit
				if _, err := Decode(data); err == nil {
					t.Fatalf("%s: accepted with bit %d of byte %d of %d flipped", name, bit, i, len(data))
				}
				data[i] ^= 1 << bit
			}
		}
		if _, err := Decode(data); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCutAndGarbage(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	data := mustEncode(t, small(), Options{Key: key})
	for n := range data {
		if _, err := Decode(data[:n]); err == nil {
			t.Fatalf("accepted when cut to %d of %d bytes", n, len(data))
		}
	}
	_, err := Decode(data[:len(data)-1])
	wantError(t, err, "cut off")
	_, err = Decode(append(bytes.Clone(data), 0))
	wantError(t, err, "1 byte follows the end of the bundle")
	_, err = Decode(append(bytes.Clone(data), data...))
	wantError(t, err, "follow the end of the bundle")
}

func TestDamageIsNamed(t *testing.T) {
	data := mustEncode(t, small(), Options{})
	c, err := parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.sections {
		bad := bytes.Clone(data)
		bad[s.offset] ^= 1
		_, err := Decode(bad)
		wantError(t, err, "section "+s.kind.String()+" is damaged")
	}
}

func TestHostileHeader(t *testing.T) {
	le := binary.LittleEndian
	entry := func(i, at int) int { return headerSize + i*entrySize + at }
	for _, tc := range []struct {
		name   string
		change func(b []byte)
		want   string
	}{
		{"text mode", func(b []byte) { b[6] = '\n' }, "text mode"},
		{"other magic", func(b []byte) { b[0] = 0x7f }, "not a bundle"},
		{"newer version", func(b []byte) { le.PutUint32(b[8:], 7) }, "written by a newer nepcoc (format 7; this program reads 1 to 2): update nepcod"},
		{"version 0", func(b []byte) { le.PutUint32(b[8:], 0) }, "format version 0 does not exist"},
		{"4 GB long", func(b []byte) { le.PutUint64(b[16:], 4<<30) }, "cut off"},
		{"many sections", func(b []byte) { le.PutUint32(b[12:], 1<<31) }, "sections does not fit"},
		{"no sections", func(b []byte) { le.PutUint32(b[12:], 0) }, "last section ends"},
		{"reserved byte of the header", func(b []byte) { b[60] = 1 }, "reserved bytes of the header"},
		{"reserved byte of the table", func(b []byte) { b[entry(1, 40)] = 1 }, "reserved bytes of the table"},
		{"unknown kind", func(b []byte) { b[entry(3, 0)] = 99 }, "unknown kind"},
		{"section twice", func(b []byte) { b[entry(1, 0)] = 1 }, "out of order or twice"},
		{"unknown encoding", func(b []byte) { b[entry(0, 4)] = 9 }, "unknown encoding 9"},
		{"overlapping sections", func(b []byte) { le.PutUint64(b[entry(1, 8):], le.Uint64(b[entry(0, 8):])) }, "section 1 (program): offset"},
		{"offset of 4 GB", func(b []byte) { le.PutUint64(b[entry(2, 8):], 4<<30) }, "section 2 (weights): offset"},
		{"stored 4 GB", func(b []byte) { le.PutUint64(b[entry(2, 16):], 4<<30) }, "lie outside the file"},
		{"stored 2^64-1", func(b []byte) { le.PutUint64(b[entry(2, 16):], math.MaxUint64) }, "lie outside the file"},
		{"raw 4 GB", func(b []byte) { le.PutUint64(b[entry(2, 24):], 4<<30) }, "claims to grow"},
		{"raw too small", func(b []byte) { le.PutUint64(b[entry(1, 24):], 100) }, "section program: zstd"},
		{"raw too large", func(b []byte) { le.PutUint64(b[entry(1, 24):], 1<<20) }, "decodes to"},
		{"weights longer than tensors", func(b []byte) { le.PutUint64(b[entry(2, 24):], 1<<20) }, "the program's tensors have"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data := mustEncode(t, small(), Options{})
			tc.change(data)
			reseal(data)
			before := allocated()
			_, err := Decode(data)
			wantError(t, err, tc.want)
			if n := allocated() - before; n > 32<<20 {
				t.Errorf("allocated %d bytes for a file of %d", n, len(data))
			}
		})
	}
}

// allocated is the total of bytes ever allocated.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func TestHostileSections(t *testing.T) {
	m, p, w, g := rawParts(t, small())
	replace := func(b []byte, old, new string) []byte {
		if !bytes.Contains(b, []byte(old)) {
			t.Fatalf("no %q to replace", old)
		}
		return bytes.Replace(b, []byte(old), []byte(new), 1)
	}
	deep := []byte(strings.Repeat("[", 1<<20))
	for _, tc := range []struct {
		name string
		data []byte
		want string
	}{
		{"unknown field", assemble(m, replace(p, `{"length"`, `{"extra":1,"length"`), w, g), `section program: json: unknown field "extra"`},
		{"field twice", assemble(m, replace(p, `{"length":6`, `{"length":6,"length":6`), w, g), "not in canonical form at byte 13"},
		{"other case", assemble(m, replace(p, `{"length"`, `{"Length"`), w, g), "not in canonical form"},
		{"white space", assemble(m, append(p, '\n'), w, g), "not in canonical form"},
		{"second value", assemble(m, append(p, '{', '}'), w, g), "not in canonical form"},
		{"wrong type", assemble(m, replace(p, `"length":6`, `"length":"6"`), w, g), "section program: json: cannot unmarshal string"},
		{"huge number", assemble(m, replace(p, `"length":6`, `"length":1e400`), w, g), "section program: json"},
		{"cut JSON", assemble(m, p[:len(p)-5], w, g), "section program: unexpected EOF"},
		{"deep JSON", assemble(m, deep, w, g), "section program: "},
		{"many objects", assemble(m, []byte(`{"steps":[`+strings.Repeat("{},", 1<<18)+"{}]}"), w, g), "JSON objects"},
		{"null program", assemble(m, []byte("null"), w, g), "not in canonical form"},
		{"no weights", assemble(m, p, nil, g), "ends at byte"},
		{"more weights", assemble(m, p, append(bytes.Clone(w), 0), g), "the program's tensors have"},
		{"dirty padding", assemble(m, p, func() []byte { x := bytes.Clone(w); x[44] = 1; return x }(), g), "are not zero"},
		{"golden claims 4 G vectors", assemble(m, p, w, []byte{255, 255, 255, 255}), "ends in the middle of a vector"},
		{"golden cut", assemble(m, p, w, g[:len(g)-4]), "ends in the middle of a vector"},
		{"golden too long", assemble(m, p, w, append(bytes.Clone(g), 0, 0, 0, 0)), "4 bytes follow the last vector"},
		{"manifest of another version", assemble(replace(m, `"format":2`, `"format":1`), p, w, g), "format 1 in a file of version 2"},
		{"shape of 4 G", assemble(m, replace(p, `"shape":[4]`, `"shape":[4294967296]`), w, g), "dimension 4294967296"},
		{"shape whose product overflows", assemble(m, replace(p, `"shape":[4]`, `"shape":[1073741824,1073741824,16]`), w, g), "is more than"},
		{"value of 16 G", assemble(m, replace(p, `"rows":6,"cols":4`, `"rows":65535,"cols":1048576`), w, g), "bytes of all values 68718428160 is more than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := allocated()
			_, err := Decode(tc.data)
			wantError(t, err, tc.want)
			if n := allocated() - before; n > 64<<20 || n > 16<<20+40*uint64(len(tc.data)) {
				t.Errorf("allocated %d bytes for a file of %d", n, len(tc.data))
			}
		})
	}
	if _, err := Decode(assemble(m, p, w, g)); err != nil {
		t.Errorf("sections stored raw: %v", err)
	}
}

// featured makes a bundle one of features: they have more ids than its table has rows.
func featured(b *Bundle) {
	table := &b.Program.Tensors[b.Program.Steps[embedStep].TokenTable.Table]
	table.Shape = []int{FeatureLevels, table.Shape[1]}
	table.Data = make([]byte, FeatureLevels*table.Shape[1])
	b.Program.Vocab, b.Manifest.Model.Features, b.Manifest.Contract = FeatureLevels, make([]Range, b.Program.Length), Contract{}
}

func TestManifestAndGoldenAreChecked(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(b *Bundle)
		want   string
	}{
		{"no program", func(b *Bundle) { b.Program = nil }, "no program"},
		{"labels", func(b *Bundle) { b.Manifest.Outputs[0].Labels = []string{"one"} }, `manifest: output "logits": 1 labels for 2 logits`},
		{"output names", func(b *Bundle) { b.Manifest.Outputs[0].Name = "x" }, `manifest: output 0 is "x", in the program "logits"`},
		{"outputs", func(b *Bundle) { b.Manifest.Outputs = nil }, "manifest: 0 outputs, the program has 1"},
		{"kind", func(b *Bundle) { b.Manifest.Outputs[0].Kind = "regression" }, `output "logits": unknown kind "regression"`},
		{"binary of two", func(b *Bundle) { b.Manifest.Outputs[0].Kind = KindBinary }, `output "logits": binary of 2 logits`},
		{"labels without thresholds", func(b *Bundle) { b.Manifest.Outputs[0].Kind = KindLabels }, "0 thresholds for 2 logits (labels)"},
		{"threshold of a label", func(b *Bundle) {
			b.Manifest.Outputs[0].Kind, b.Manifest.Outputs[0].Thresholds = KindLabels, []float64{0.5, 1.5}
		}, "threshold 1.5 is not in 0..1"},
		{"threshold without probabilities", func(b *Bundle) {
			b.Manifest.Outputs[0].Kind = KindLabels
			b.Program.Outputs[0].Exp, b.Program.Outputs[0].ExpMult, b.Program.Outputs[0].ExpShift = -1, 0, 0
		}, "labels without probabilities"},
		{"unknown of values", func(b *Bundle) { b.Manifest.Outputs[0].Kind, b.Manifest.Outputs[0].Labels = KindValues, nil }, "unknown_threshold of values"},
		{"alert id", func(b *Bundle) { b.Manifest.Outputs[0].FirstAlertID = -1 }, "first_alert_id -1"},
		{"threshold", func(b *Bundle) { x := math.NaN(); b.Manifest.Outputs[0].UnknownThreshold = &x }, "unknown_threshold NaN"},
		{"figures", func(b *Bundle) { b.Manifest.Measured.Cosine = math.Inf(1) }, "manifest: json: unsupported value"},
		{"folder", func(b *Bundle) { b.Manifest.Model.File = "a/b.onnx" }, "a name without folders"},
		{"control characters", func(b *Bundle) { b.Manifest.Outputs[0].Labels[1] = "\x1b[2J" }, `output "logits": "\x1b[2J" holds characters`},
		{"features of other ids", func(b *Bundle) { b.Manifest.Model.Features = make([]Range, b.Program.Length) }, "features: 6 ranges for 6 positions of 11 ids, want one each and 255 ids"},
		{"features and packets", func(b *Bundle) {
			featured(b)
			b.Manifest.Contract.YAML = "x"
		}, "they come with a traffic contract"},
		{"feature without end", func(b *Bundle) {
			featured(b)
			b.Manifest.Model.Features[4][1] = 1e300
		}, "range 4 reaches to 1e+300"},
		{"golden length", func(b *Bundle) { b.Golden[1].Tokens = b.Golden[1].Tokens[1:] }, "golden vector 1: input has 5 tokens"},
		{"golden token", func(b *Bundle) { b.Golden[0].Tokens[2] = 11 }, "golden vector 0: token 2 is 11"},
		{"golden negative token", func(b *Bundle) { b.Golden[0].Tokens[2] = -1 }, "golden vector 0: token 2 is -1"},
		{"golden valid", func(b *Bundle) { b.Golden[0].Valid = 7 }, "golden vector 0: 7 valid tokens"},
		{"golden outputs", func(b *Bundle) { b.Golden[0].Logits = nil }, "golden vector 0: 0 outputs, the program has 1"},
		{"golden logits", func(b *Bundle) { b.Golden[0].Logits[0] = []int32{1} }, "golden vector 0: output 0 has 1 logits, expected 2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := small()
			tc.change(b)
			_, err := Encode(b, Options{})
			wantError(t, err, tc.want)
		})
	}
}

// A bundle is read from a file and from a pipe, whose length nobody knows.
func TestRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "small.nepco")
	data := mustEncode(t, small(), Options{Mappable: true}) // more than one buffer
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	b, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	piped, err := Read("a pipe", iotest.HalfReader(bytes.NewReader(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []*Bundle{b, piped} {
		if d := cmp.Diff(small(), got, content); d != "" {
			t.Errorf("read differs (-want +got):\n%s", d)
		}
		if w := got.Program.Tensors[0].Data; !isAligned(w) {
			t.Error("weights are not aligned")
		}
	}
	_, err = ReadFile(dir)
	wantError(t, err, dir+": is a folder")
	_, err = ReadFile(filepath.Join(dir, "none.nepco"))
	wantError(t, err, "none.nepco")
	_, err = readAligned("x", bytes.NewReader(data), nil, int64(len(data))-1)
	wantError(t, err, "x: more than the")
	_, err = Read("x", iotest.ErrReader(errors.New("broken")))
	wantError(t, err, "x: broken")
}

// endless is a file of so many bytes, which counts those that are read.
type endless struct {
	head       []byte
	size, read int64
}

func (e *endless) Read(b []byte) (int, error) {
	n := min(int64(len(b)), e.size-e.read)
	if n == 0 {
		return 0, io.EOF
	}
	clear(b[:n])
	if e.read < int64(len(e.head)) {
		copy(b[:n], e.head[e.read:])
	}
	e.read += n
	return int(n), nil
}

// What is no bundle, or too large a one, is refused by its first bytes, however large it is, pipe or file.
func TestReadNoMore(t *testing.T) {
	header := mustEncode(t, small(), Options{})[:headerSize]
	large := bytes.Clone(header)
	binary.LittleEndian.PutUint64(large[16:], 1<<30)
	older := bytes.Clone(large)
	older[8] = 99
	for _, tc := range []struct {
		head  []byte
		limit int64
		want  string
	}{
		{nil, MaxFileSize, "not a bundle"}, {[]byte("\x7fELF"), MaxFileSize, "not a bundle"}, {older, MaxFileSize, "newer nepcoc"}, {large, 1 << 20, "more than the 1048576 bytes"},
	} {
		e := &endless{head: tc.head, size: 1 << 30}
		_, _, err := ReadAccepted("x", e, tc.limit, nil)
		wantError(t, err, tc.want)
		if e.read > 4096 {
			t.Errorf("%s: %d bytes were read", tc.want, e.read)
		}
	}
	// A file's own size counts, too: nothing is allocated for what follows a bundle.
	file := filepath.Join(t.TempDir(), "sparse.nepco")
	if err := os.WriteFile(file, mustEncode(t, small(), Options{}), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 1<<40); err != nil {
		t.Fatal(err)
	}
	_, err := ReadFile(file)
	wantError(t, err, "follow the end of the bundle")
}

// table is a bundle whose token table is as large as the published model's,
// of 5-bit values in a bell curve.
func table(tb testing.TB) *Bundle {
	b := small()
	r := rand.New(rand.NewPCG(1, 2))
	v := make([]int32, 65541*256)
	for i := range v {
		v[i] = 8 * int32(min(max(math.Round(r.NormFloat64()*3.4), -15), 15))
	}
	b.Program.Vocab = 65541
	b.Program.Steps[0].Out = len(b.Program.Values)
	b.Program.Values = append(b.Program.Values, Value{Name: "wide", DType: I8, Rows: 6, Cols: 256})
	b.Program.Steps = append(b.Program.Steps[:1:1], append([]Step{{Op: OpSlice, Name: "first", In: []int{6}, Out: 0, Slice: &Slice{Axis: 1, Step: 1}}}, b.Program.Steps[1:]...)...)
	b.Program.Tensors[b.Program.Steps[0].TokenTable.Table] = NewTensor("table", I8, []int{65541, 256}, v)
	return b
}

func TestPublishedSize(t *testing.T) {
	b := table(t)
	start := time.Now()
	data := mustEncode(t, b, Options{})
	encode := time.Since(start)
	start = time.Now()
	if _, err := Decode(data); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes, encoded in %v, decoded and checked in %v", len(data), encode, time.Since(start))
	if len(data) > 8_500_000 {
		t.Errorf("%d bytes, at most 8.5 MB wanted", len(data))
	}
}

func BenchmarkDecode(b *testing.B) {
	data := mustEncode(b, table(b), Options{})
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}
