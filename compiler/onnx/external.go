package onnx

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"syscall"

	"nepcoc/internal/files"
	"nepcoc/ir"
)

// External data: weights that lie in files beside the model, as PyTorch's exporter writes them by
// default since 2.9. A model is a stranger's file, and so is what it names: only regular files
// inside of the model's folder are opened, through an os.Root, so that neither "..", nor an
// absolute path, nor a link leads out of it. Offsets and lengths are held to the file's size and to what the
// tensor's shape needs before anything is allocated, and all of them together to maxFile.

// externalPlace says where a tensor's bytes lie, as the file has it: TensorProto.external_data.
type externalPlace struct {
	location, offset, length string
}

func (p *externalPlace) set(key, value string) {
	switch key {
	case "location":
		p.location = value
	case "offset":
		p.offset = value
	case "length":
		p.length = value
	}
}

// span is the place in numbers; want is the number of bytes that the tensor needs.
func (p *externalPlace) span(want int) (offset int64, err error) {
	if p.offset != "" {
		if offset, err = strconv.ParseInt(p.offset, 10, 64); err != nil || offset < 0 {
			return 0, fmt.Errorf("offset %q is no place in a file", p.offset)
		}
	}
	if p.length != "" {
		n, err := strconv.ParseInt(p.length, 10, 64)
		if err != nil || n != int64(want) {
			return 0, fmt.Errorf("length %q, its shape needs %d bytes", p.length, want)
		}
	}
	return offset, nil
}

// dataFolder opens the files of one folder, each once.
type dataFolder struct {
	name   string
	root   *os.Root
	opened map[string]*dataFile
}

type dataFile struct {
	f    *os.File
	size int64
	err  error // why it can't be read
}

// Why a file can't be read, where what to do about it differs.
var (
	errOutside = errors.New("lies outside of the model's folder")
	errAbsent  = errors.New("is not there")
	errNoFile  = errors.New("is no regular file")
)

func (d *dataFolder) open(location string) *dataFile {
	if f := d.opened[location]; f != nil {
		return f
	}
	if d.opened == nil {
		d.opened = make(map[string]*dataFile)
	}
	f := &dataFile{}
	f.f, f.size, f.err = d.openFile(location)
	d.opened[location] = f
	return f
}

func (d *dataFolder) openFile(location string) (*os.File, int64, error) {
	if d.root == nil {
		root, err := os.OpenRoot(d.name)
		if err != nil {
			return nil, 0, files.Reason(err)
		}
		d.root = root
	}
	// Without waiting for whoever writes to a pipe.
	f, err := d.root.OpenFile(location, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, 0, errAbsent
	case err != nil && files.Reason(err).Error() == "path escapes from parent":
		return nil, 0, errOutside
	case err != nil:
		return nil, 0, files.Reason(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNoFile
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func (d *dataFolder) close() {
	for _, f := range d.opened {
		if f.f != nil {
			f.f.Close()
		}
	}
	if d.root != nil {
		d.root.Close()
	}
}

// loadExternal reads the external data of all tensors, so that the rest of the importer sees
// payloads like all others. What can't be read is reported once per reason and file, and stays external.
func (imp *importer) loadExternal(folder *dataFolder) {
	var tensors []*tensorProto
	imp.m.graph.eachTensor(func(t *tensorProto) {
		if t.external {
			tensors = append(tensors, t)
		}
	})
	if len(tensors) == 0 {
		return
	}
	if folder != nil {
		defer folder.close()
	}
	type fault struct{ location, reason, wayOut string }
	var faults []fault
	count, first := make(map[fault]int), make(map[fault]string)
	read := make(map[string]bool)
	left := int64(maxFile)
	for _, t := range tensors {
		reason, wayOut := t.load(folder, &left)
		if reason == "" {
			read[t.place.location] = true
			continue
		}
		f := fault{t.place.location, reason, wayOut}
		if count[f]++; count[f] == 1 {
			faults, first[f] = append(faults, f), t.name
		}
	}
	imp.data = slices.Sorted(maps.Keys(read))
	for _, f := range faults {
		of := fmt.Sprintf("%d tensors", count[f])
		if count[f] == 1 {
			of = fmt.Sprintf("tensor %q", first[f])
		}
		imp.report(Problem{Kind: ExternalData, Reason: fmt.Sprintf("weights in a second file, %q (%s): %s", f.location, of, f.reason), WayOut: f.wayOut})
	}
}

// eachTensor visits the tensors of a graph: its initializers, and those of its nodes' attributes.
func (g *graphProto) eachTensor(visit func(*tensorProto)) {
	for i := range g.inits {
		visit(&g.inits[i])
	}
	for i := range g.nodes {
		for j := range g.nodes[i].attrs {
			if t := g.nodes[i].attrs[j].tensor; t != nil {
				visit(t)
			}
		}
	}
}

const (
	wayExternal = "put the weights into the model file: onnx.save(onnx.load(\"model.onnx\"), \"one.onnx\", save_as_external_data=False)"
	wayBeside   = "copy the file of weights into the model's folder, under the name that the model has for it; or "
	wayWhole    = "export the model again, and copy the model and its file of weights whole"
)

// load reads the tensor's bytes and makes them its raw payload; left is what may still be read.
// The reason is empty where that went well.
func (t *tensorProto) load(folder *dataFolder, left *int64) (reason, wayOut string) {
	if folder == nil {
		return "only the model itself was given, nothing beside it", "give the model as a file; or " + wayExternal
	}
	n, err := elements(t.dims)
	d := lookupDType(t.dtype)
	if err != nil || d == nil || d.bits == 0 {
		return "its element type or shape has no size", wayWhole // the reader has refused such shapes
	}
	want := (n*d.bits + 7) / 8
	offset, err := t.place.span(want)
	if err != nil {
		return err.Error(), wayWhole
	}
	if t.place.location == "" {
		return "the model doesn't say which", wayWhole
	}
	f := folder.open(t.place.location)
	switch {
	case errors.Is(f.err, errAbsent):
		return "the file is not there", wayBeside + wayExternal
	case errors.Is(f.err, errOutside):
		return "the file lies outside of the model's folder, from which alone files are read", wayBeside + wayExternal
	case errors.Is(f.err, errNoFile):
		return "this is no regular file", wayBeside + wayExternal
	case f.err != nil:
		return f.err.Error(), wayBeside + wayExternal
	case offset > f.size || int64(want) > f.size-offset:
		return fmt.Sprintf("%d bytes from %d on are asked for, the file has %d", want, offset, f.size), wayWhole
	case int64(want) > *left:
		return fmt.Sprintf("all weights together have more than %d bytes", maxFile), "make the model smaller: bundles are far below that"
	}
	*left -= int64(want)
	raw := make([]byte, want)
	if _, err := f.f.ReadAt(raw, offset); err != nil {
		return files.Reason(err).Error(), wayWhole
	}
	t.raw, t.hasRaw, t.external, t.loaded = raw, true, false, true
	return "", ""
}

// maxStandIns is the number of elements of weights that are made up, see standIn.
const maxStandIns = 1 << 22

// standIn is what a weight is taken for whose data can't be read: numbers of its type and shape, so that what else
// stands against the model shows at once. Nothing of it gets into a bundle: the model is refused. Integers may be shapes, and are
// not made up.
func (imp *importer) standIn(t *tensorProto) (*ir.Tensor, error) {
	n, err := elements(t.dims)
	d := lookupDType(t.dtype)
	if err != nil || d == nil || d.ir != ir.F32 || imp.standIns+n > maxStandIns {
		return nil, errReported
	}
	imp.standIns += n
	data := make([]float32, n)
	for i := range data {
		data[i] = 0.5
	}
	return ir.Float32s(data, t.shape()...), nil
}

// digest is the SHA-256 of the model file, in hex. Where weights lie in other files it is that of the
// digests of the model file and of these weights, in the order of their tensors.
func (imp *importer) digest(data []byte) string {
	sum := sha256.Sum256(data)
	if len(imp.data) > 0 {
		h := sha256.New()
		h.Write(sum[:])
		imp.m.graph.eachTensor(func(t *tensorProto) {
			if t.loaded {
				part := sha256.Sum256(t.raw)
				h.Write(part[:])
			}
		})
		h.Sum(sum[:0])
	}
	return hex.EncodeToString(sum[:])
}
