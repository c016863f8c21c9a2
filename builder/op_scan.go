package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// Scanner finds packages in file systems.
type Scanner interface {
	// Identity tells scanners apart that find different things: it decides keys.
	Identity() (string, error)
	// Scan returns a statement for each of the file systems, by the names of their files.
	// All layers are in the store.
	Scan(ctx context.Context, op parser.Scan, chains []layers.Chain) (map[string][]byte, error)
}

// scanOp lists the packages in its inputs. Their files decide what it finds, and not the
// steps that made them: one that runs again, because its layers were lost, can make others.
type scanOp struct {
	node    *parser.Node
	op      parser.Scan
	scanner string
}

func newScanOp(n *parser.Node, o parser.Scan, s Scanner) (op, error) {
	if s == nil {
		return nil, errors.New("this build has no scanner for packages")
	}
	id, err := s.Identity()
	return scanOp{n, o, id}, err
}

func (scanOp) kind() kind { return stepKind }

func (o scanOp) inputs() []input {
	list := make([]input, len(o.node.Inputs))
	for i, in := range o.node.Inputs {
		whole := fileop.Subtree("/")
		list[i] = input{part: o.op.Names[i], from: in, sel: &whole}
	}
	return list
}

func (o scanOp) describe(r *cache.Recipe) {
	r.Add("operation", "scan")
	r.Add("scanner", o.scanner)
	r.Add("architecture", o.op.Architecture)
}

func (o scanOp) run(ctx context.Context, e *engine) (value, error) {
	chains := make([]layers.Chain, len(o.node.Inputs))
	for i, in := range o.node.Inputs {
		var err error
		if chains[i], err = e.chainOf(ctx, in); err != nil {
			return value{}, err
		}
		var bases layers.Chain
		for _, l := range chains[i] {
			if l.Descriptor.Digest != "" && len(l.Origins) > 0 {
				bases = append(bases, l)
			}
		}
		if err := e.Layers.Fetch(ctx, bases); err != nil {
			return value{}, err
		}
	}
	end, err := e.bounds.beginWork(ctx)
	if err != nil {
		return value{}, err
	}
	defer end()
	found, err := e.Scanner.Scan(ctx, o.op, chains)
	if err != nil {
		return value{}, err
	}
	l, err := e.written(ctx, found)
	return value{chains: []layers.Chain{{l}}}, err
}

// written makes a layer of files.
func (e *engine) written(ctx context.Context, files map[string][]byte) (layers.Layer, error) {
	w, err := e.Layers.NewWriter(ctx, store.Forms{Tar: true}, e.Compression)
	if err != nil {
		return layers.Layer{}, err
	}
	defer w.Abort()
	for _, dir := range []string{path.Dir(parser.ScanDir), parser.ScanDir} {
		if err := w.Add(layers.Entry{Path: dir, Kind: layers.Dir, Mode: 0o755, ModTime: layers.MadeTime}, nil); err != nil {
			return layers.Layer{}, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		entry := layers.Entry{Path: path.Join(parser.ScanDir, name), Kind: layers.File, Mode: 0o644, Size: int64(len(files[name])), ModTime: layers.MadeTime}
		if err := w.Add(entry, bytes.NewReader(files[name])); err != nil {
			return layers.Layer{}, err
		}
	}
	return w.Commit(time.Now().UTC())
}

// Statements are the files that the target's scan has written, by their names; none without
// a scan.
func (r TargetResult) Statements(ctx context.Context, s *store.Store) (map[string][]byte, error) {
	if r.Scan == nil {
		return nil, nil
	}
	view, err := s.View(ctx, r.Scan)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	err = view.Walk(func(listed layers.Entry, _ int) error {
		name, ok := strings.CutPrefix(listed.Path, parser.ScanDir+"/")
		switch {
		case !ok || strings.Contains(name, "/"):
			return nil
		case listed.Kind == layers.Dir:
			return fmt.Errorf("the scanner has written %q, which is not a statement", name)
		}
		at, err := view.Resolve(listed.Path, true)
		if err != nil {
			return fmt.Errorf("the scanner's file %q: %w", name, err)
		}
		entry, layer, ok := view.Lookup(at)
		switch {
		case !ok || entry.Kind != layers.File:
			return fmt.Errorf("the scanner's %q is not a regular file", name)
		case entry.Size > manifest.MaxStatement:
			return hint.Add(fmt.Errorf("the scanner's file %q has %d bytes, and must not have more than %d", name, entry.Size, manifest.MaxStatement),
				"let it scan fewer stages, or build with --sbom=false and list the packages with sinter sbom IMAGE")
		}
		content, err := s.OpenFile(ctx, r.Scan[layer], entry)
		if err != nil {
			return err
		}
		files[name], err = io.ReadAll(content)
		return errors.Join(err, content.Close())
	})
	return files, err
}
