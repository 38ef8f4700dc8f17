package bundle

// formats are the versions that are read, each with the structs whose canonical
// JSON its sections hold.
//
// Within a version that has been released no field comes, goes or changes its meaning.
// The first change after that makes a new version: copy the structs as they were to a
// file formatN.go, which never changes again; point this table to them; raise FormatVersion; list the
// change in doc.go; and put files of version N, with what they gave, into testdata/formatN for the tests
// of all later versions. A field that goes is simply not read any more. What was meant otherwise
// than today's structs say, upgrade puts right.
//
// The alternative, tags on fields that name their first and last version, needs no
// copies, but then whoever forgets a tag changes what old files may hold without noticing.
var formats = map[int]struct {
	manifest, program func() any
	// upgrade fills what was elsewhere in a file whose manifest was read as the given struct.
	upgrade func(b *Bundle, manifest any)
}{
	1: {func() any { return new(manifest1) }, func() any { return new(program1) }, func(b *Bundle, manifest any) {
		b.Program.Plan.Tile = 0    // no engine of that time followed it
		b.Manifest.MinPayload = -1 // every flow was judged
		// What was called accuracy was the agreement of integer and float on the inputs that
		// the calibration used.
		a := manifest.(*manifest1).Accuracy
		b.Manifest.Measured = Measured{Samples: a.Samples, Seen: true, Agreement: a.Agreement, Cosine: a.Cosine, MaxError: a.MaxError}
	}},
	2: {func() any { return new(Manifest) }, func() any { return new(Program) }, func(*Bundle, any) {}},
}
