package files

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/attest"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hint"
)

// statementLayer stands for the layer of an entry that is a statement.
const statementLayer = -2

// attest makes the statements about the files of r, whose subjects are all regular files
// by their paths below the root, as with BuildKit (exporter/local/fs.go).
func (f *Files) attest(ctx context.Context, r *rootfs, o Options) error {
	inlineOnly := func(a attest.Attestation) bool { return a.InlineOnly }
	if r.part.Attest == nil || len(slices.DeleteFunc(slices.Clone(o.Asked), inlineOnly)) == 0 {
		return nil
	}
	list, err := r.part.Attest(ctx, nil)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(slices.Clone(list), inlineOnly)
	subjects, err := f.subjects(ctx, r)
	if err != nil {
		return err
	}
	statements := map[string][]byte{}
	for _, a := range list {
		name := r.statementName(a.File, o)
		if _, ok := statements[name]; ok {
			return hint.Add(fmt.Errorf("two attestations have the name %s", name), "give the provenance another name: --provenance=filename=NAME")
		}
		if err := r.isFree(name); err != nil {
			return err
		}
		if statements[name], err = a.Statement(subjects, true); err != nil {
			return err
		}
	}
	r.statements = statements
	return nil
}

// statementName is the place of a statement in the output. Where files of several
// platforms are not in directories of their own, the platform is in the name.
func (r *rootfs) statementName(file string, o Options) string {
	name := o.Prefix + file
	if o.Platforms && !o.Split {
		ext := path.Ext(name)
		name = strings.TrimSuffix(name, ext) + "." + platformDir(r.platform()) + ext
	}
	return path.Join(r.prefix, name)
}

// isFree refuses a statement in the place of a file of the image.
func (r *rootfs) isFree(name string) error {
	in := path.Join(r.source, strings.TrimPrefix(strings.TrimPrefix(name, r.prefix), "/"))
	if _, _, ok := r.view.Lookup(in); !ok {
		return nil
	}
	return hint.Add(fmt.Errorf("the attestation %s has the name of a file of the image", name),
		"give attestations another name with the output's attestation-prefix=PREFIX")
}

// subjects are the regular files of r with their digests.
func (f *Files) subjects(ctx context.Context, r *rootfs) ([]attest.Subject, error) {
	var list []attest.Subject
	sums := map[string]digest.Digest{}
	err := r.walk(func(e layers.Entry, layer int) error {
		var sum digest.Digest
		switch e.Kind {
		case layers.File:
			var err error
			if sum, err = f.sum(ctx, r, e, layer); err != nil {
				return fmt.Errorf("file %q: %w", e.Path, err)
			}
			sums[e.Path] = sum
		case layers.Hardlink:
			var ok bool
			if sum, ok = sums[e.Link]; !ok { // of a device, say
				return nil
			}
		default:
			return nil
		}
		list = append(list, attest.NewSubject(strings.TrimPrefix(strings.TrimPrefix(e.Path, r.prefix), "/"), sum))
		return nil
	})
	return list, err
}

// sum is the digest of a file: the one that the tree has, else it is read.
func (f *Files) sum(ctx context.Context, r *rootfs, e layers.Entry, layer int) (digest.Digest, error) {
	if d := e.Sum.Digest(); d != "" {
		return d, nil
	}
	content, err := r.open(ctx, f.store.OpenFile, e, layer)
	if err != nil {
		return "", err
	}
	d, err := digest.SHA256.FromReader(content)
	return d, errors.Join(err, content.Close())
}

// withStatements returns fn for a walk through the files, which passes each statement in its
// place among them; rest passes those that come after all files.
func (r rootfs) withStatements(fn func(e layers.Entry, layer int) error) (merged func(e layers.Entry, layer int) error, rest func() error) {
	names := slices.SortedFunc(maps.Keys(r.statements), layers.ComparePaths)
	pass := func(isNext func(name string) bool) error {
		for len(names) > 0 && isNext(names[0]) {
			e := layers.Entry{Path: names[0], Kind: layers.File, Mode: 0o600, Size: int64(len(r.statements[names[0]])), ModTime: layers.MadeTime}
			r.clamp(&e)
			if err := fn(e, statementLayer); err != nil {
				return err
			}
			names = names[1:]
		}
		return nil
	}
	merged = func(e layers.Entry, layer int) error {
		if err := pass(func(name string) bool { return layers.ComparePaths(name, e.Path) < 0 }); err != nil {
			return err
		}
		return fn(e, layer)
	}
	return merged, func() error { return pass(func(string) bool { return true }) }
}
