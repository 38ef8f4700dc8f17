package c_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	emit "nepcoc/backends/c"
	"nepcoc/internal/randprog"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
)

// constants are the names of a package's exported constants that begin with a prefix, which they are listed without.
func constants(t *testing.T, dir, prefix string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(dir, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if g, ok := n.(*ast.GenDecl); ok && g.Tok == token.CONST {
				for _, s := range g.Specs {
					for _, n := range s.(*ast.ValueSpec).Names {
						if rest, ok := strings.CutPrefix(n.Name, prefix); ok && rest != "" && rest[0] >= 'A' && rest[0] <= 'Z' {
							names = append(names, rest)
						}
					}
				}
			}
			_, body := n.(*ast.FuncDecl)
			return !body
		})
	}
	slices.Sort(names)
	return names
}

// Whatever a contract can say changes what is emitted. A new field, or a new word of an old one, fails here until the templates know it and
// it is listed.
func TestKnowsContract(t *testing.T) {
	type contract = traffic.Contract
	packets, err := traffic.Named("nepco-bytes")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := traffic.Named("nepco-stream")
	if err != nil {
		t.Fatal(err)
	}
	hosts := packets
	hosts.Accept = traffic.AcceptHosts
	flows := func(c contract) string {
		t.Helper()
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		b := withContract(t, c)
		b.Manifest.Contract.Hash = "" // which changes with anything
		files, err := emit.Emit(b, emit.Options{Name: "it"})
		if err != nil {
			t.Fatal(err)
		}
		return string(files[0].Data) + string(files[1].Data)
	}
	fields := map[string]struct {
		of     contract
		change func(*contract)
	}{
		"FirstLayer":     {packets, func(c *contract) { c.FirstLayer = traffic.LayerEthernet }},
		"Packets":        {packets, func(c *contract) { c.Packets++ }},
		"BytesPerPacket": {packets, func(c *contract) { c.BytesPerPacket++ }},
		"Blank":          {packets, func(c *contract) { c.Blank = nil }},
		"TokenBytes":     {packets, func(c *contract) { c.TokenBytes = 2 }},
		"Length":         {packets, func(c *contract) { c.Length++ }},
		"ValueOffset":    {packets, func(c *contract) { c.ValueOffset++ }},
		"Pad":            {packets, func(c *contract) { c.Pad = 3 }},
		"UseCLS":         {packets, func(c *contract) { c.UseCLS, c.CLS = false, 0 }},
		"CLS":            {packets, func(c *contract) { c.CLS = 3 }},
		"UseSEP":         {packets, func(c *contract) { c.UseSEP, c.SEP = false, 0 }},
		"SEP":            {packets, func(c *contract) { c.SEP = 3 }},
		"View":           {packets, func(c *contract) { *c = stream }},
		"Accept":         {packets, func(c *contract) { c.Accept = traffic.AcceptHosts }},
		"FarTTL":         {hosts, func(c *contract) { c.FarTTL = traffic.FarTTLDrop }},
		"Empty":          {hosts, func(c *contract) { c.Empty = traffic.EmptySkip }},
		"HeaderBytes":    {packets, func(c *contract) { c.HeaderBytes = 40 }},
		"PacketTokens":   {packets, func(c *contract) { c.PacketTokens = []traffic.PacketToken{traffic.TokenLength} }},
		"ByteIDs": {packets, func(c *contract) {
			c.ValueOffset = 0
			c.ByteIDs = make([]int, 256)
			for i := range c.ByteIDs {
				c.ByteIDs[i] = 5 + i/2
			}
		}},
		"Numbers":     {packets, func(c *contract) { c.Numbers = []traffic.Number{traffic.NumberLength} }},
		"ClientBytes": {stream, func(c *contract) { c.ClientBytes-- }},
		"ServerBytes": {stream, func(c *contract) { c.ServerBytes-- }},
		"EnoughBytes": {stream, func(c *contract) { c.EnoughBytes++ }},
		"Quiet":       {stream, func(c *contract) { c.Quiet += time.Millisecond }},
		"CloseLinger": {packets, func(c *contract) { c.CloseLinger += time.Millisecond }},
		"Idle":        {packets, func(c *contract) { c.Idle += time.Millisecond }},
	}
	// For people, and for what feeds a float model: tokens are the same.
	others := []string{"Name", "Encoding"}
	for i := range reflect.TypeFor[contract]().NumField() {
		name := reflect.TypeFor[contract]().Field(i).Name
		f, known := fields[name]
		if !known {
			if !slices.Contains(others, name) {
				t.Errorf("emitted C does not know the contract's field %s: teach it to flow.go and the templates, then list it here", name)
			}
			continue
		}
		changed := f.of
		f.change(&changed)
		if flows(changed) == flows(f.of) {
			t.Errorf("%s makes no difference to emitted C", name)
		}
	}

	words := map[string][]string{ // of runtime/traffic
		"Blank": {"Addresses", "Checksums", "FlowLabel", "IPID", "MAC", "Ports", "TCPOptions", "TCPSeq", "TCPTimestamps", "TCPWindow", "TLSRandom", "TLSSNI", "TOS", "TTL"},
		"Layer": {"Ethernet", "IP", "Payload"}, "Token": {"Direction", "Length"}, "Number": {"Direction", "Gap", "Length"}, "View": {"Packets", "Stream"},
		"Accept": {"All", "Hosts"}, "FarTTL": {"Drop", "Mark"}, "Empty": {"Keep", "Skip"},
	}
	for _, prefix := range slices.Sorted(maps.Keys(words)) {
		if d := cmp.Diff(words[prefix], constants(t, "../../runtime/traffic", prefix)); d != "" {
			t.Errorf("%s...: - known to emitted C, + in contracts:\n%s", prefix, d)
		}
	}
	none := packets
	none.Blank = nil
	for _, b := range traffic.BlankChoices() {
		c := none
		c.Blank = []traffic.Blank{traffic.Blank(b.Word)}
		if c.Blanks(traffic.BlankMAC) {
			c.FirstLayer, none.FirstLayer = traffic.LayerEthernet, traffic.LayerEthernet
		} else {
			none.FirstLayer = traffic.LayerIP
		}
		if flows(c) == flows(none) {
			t.Errorf("blank: [%s] makes no difference to emitted C", b.Word)
		}
	}
}

// Marks have the same names in C.
func TestKnowsMarks(t *testing.T) {
	files, err := emit.Emit(withContract(t, traffic.Default()), emit.Options{Name: "it"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range constants(t, "../../runtime/flow", "Mark") {
		if !strings.Contains(string(files[0].Data), "NEPCO_IT_MARK_"+strings.ReplaceAll(strings.ToUpper(name), "ONESIDED", "ONE_SIDED")+" = ") {
			t.Errorf("emitted C does not know the mark %s", name)
		}
	}
}

// Every step of a program, with every attribute, is one that is emitted. Those added later are listed here when backends/c has their code;
// random programs, which have all of them, hold that to the reference executor.
func TestKnowsSteps(t *testing.T) {
	attributes := map[string]string{
		"TokenTable": "Table", "GatedConv": "K PadLeft ChanH ChanG TapsH TapsG BiasH BiasG PadIn Base Slope Shift Norm",
		"Conv": "K Stride Dilation PadLeft PadRight Groups W Bias Pad Requant", "Pool": "Kind Over At Mult Shift",
		"WindowPool": "Kind K Stride PadLeft PadRight CountPad", "Lut": "Mult Shift Table", "Add": "MultA MultB Bias Shift Lo Hi", "Mul": "Mult Shift Lo Hi",
		"LayerNorm": "Eps Gamma Beta Shift RMS", "Concat": "Axis Mult Shift", "Slice": "Axis Start Step", "Gather": "Index Pad", "Constant": "Data",
		"Softmax": "Exp Mult Shift", "Side": "At Zero Mult Shift",
	}
	list := func(x reflect.Type) string {
		var names []string
		for i := range x.NumField() {
			names = append(names, x.Field(i).Name)
		}
		return strings.Join(names, " ")
	}
	step := reflect.TypeFor[bundle.Step]()
	for i := range step.NumField() {
		f := step.Field(i)
		if f.Type.Kind() != reflect.Pointer {
			continue
		}
		if got := list(f.Type.Elem()); got != attributes[f.Name] {
			t.Errorf("steps' attributes %s are %s, and those known to emitted C %s", f.Name, got, attributes[f.Name])
		}
	}
	for name, x := range map[string]reflect.Type{
		"Rho Cst Flip MeanM Eps A S Shift": reflect.TypeFor[bundle.Norm](), "Mult Shift Lo Hi Table": reflect.TypeFor[bundle.Requant](),
		"Name Value Ending Scale ExpMult ExpShift Exp":                              reflect.TypeFor[bundle.Output](),
		"Length Vocab Left Right Sides Values Tensors Steps Outputs Plan Belonging": reflect.TypeFor[bundle.Program](),
	} {
		if list(x) != name {
			t.Errorf("%v has %s, and emitted C knows %s", x, list(x), name)
		}
	}
	operators := []string{"Add", "Concat", "Constant", "Conv", "Flatten", "GatedConv", "Gather", "LayerNorm", "Lut", "Mul", "Pool", "Regroup", "Side", "Slice", "Softmax", "TokenTable", "Transpose", "WindowPool"}
	if d := cmp.Diff(operators, constants(t, "../../runtime/bundle", "Op")); d != "" {
		t.Errorf("- operators known to emitted C, + of programs:\n%s", d)
	}
}

// A step without code is named.
func TestRefusesStep(t *testing.T) {
	b := withGolden(t, randprog.New(1), 0)
	last := &b.Program.Steps[len(b.Program.Steps)-1]
	last.Op, last.Name = "fold_time", "head/fold"
	files, err := emit.Emit(b, emit.Options{Name: "it"})
	if err == nil || !strings.Contains(err.Error(), `head/fold`) || !strings.Contains(err.Error(), `fold_time`) {
		t.Errorf("%d files, %v", len(files), err)
	}
}
