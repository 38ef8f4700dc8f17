package bundle

// formats are the versions that are read, each with the structs whose canonical
// JSON its sections hold.
//
// Within a version that has been released no field comes, goes or changes its meaning.
// The first change after that makes a new version: copy the structs as they were to a
// file formatN.go, which never changes again; point this table to them; raise FormatVersion; list the
// change in doc.go; and put files of version N, with what they gave, into testdata/formatN for the tests
// of all later versions. A field that goes is simply not read any more. Where
// its meaning moved to another, or a zero value would not mean "as before", decode has
// to fill the new field from the old struct.
//
// The alternative, tags on fields that name their first and last version, needs no
// copies, but then whoever forgets a tag changes what old files may hold without noticing.
var formats = map[int]struct{ manifest, program func() any }{
	1: {func() any { return new(manifest1) }, func() any { return new(program1) }},
	2: {func() any { return new(Manifest) }, func() any { return new(Program) }},
}
