package fileop

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// Differences writes what a copy of files, onto nothing, has other than base, as a
// layer on top of that: changed files, and whiteouts of those that are gone. Times
// count. It reads changed files alone, and opens a writer when there is something
// to be written.
//
// It reports false, and has written nothing, when that is not worth its while: when
// the difference is more than a quarter of the whole, or some file has several names.
// Marks of the Output are those of the whole copy.
func Differences(ctx context.Context, from Input, a parser.Copy, base *layers.View, open func() (Writer, error)) (o Output, worth bool, err error) {
	t := newTree(nil, nil)
	r := &run{inputs: []Input{from}}
	if err := r.copy(ctx, t, from, a); err != nil {
		return o, false, err
	}
	var all steps
	if o.Marks, err = t.plan(all.add); err != nil {
		return o, false, err
	}
	var d differences
	if err := d.find(ctx, all, base); err != nil {
		return o, false, err
	}
	if d.linked || d.found.cost()*4 > all.cost() {
		return o, false, nil
	}
	w := stepWriter{open: open}
	for _, s := range d.found {
		if err := w.write(ctx, s); err != nil {
			return o, true, err
		}
	}
	o.Written = w.to != nil
	return o, true, nil
}

// steps is a list of the entries of a layer.
type steps []step

func (l *steps) add(s step) error {
	*l = append(*l, s)
	return nil
}

// entryCost is what an entry is worth beside its content, in bytes.
const entryCost = 4 << 10

func (l steps) cost() (bytes int64) {
	for _, s := range l {
		bytes += entryCost + s.entry.Size
	}
	return bytes
}

// differences compares the entries of a copy with those that were there, both in
// the order of layers.ComparePaths.
type differences struct {
	// found is what has to be written.
	found steps
	// above are unchanged directories that lead to where the comparison is and are
	// not in found: they are when something below them is.
	above []layers.Entry
	was   []layers.Entry
	// hidden is a path below which nothing shows any more.
	hidden string
	// linked says that some file has several names.
	linked bool
}

func (d *differences) find(ctx context.Context, all steps, base *layers.View) error {
	err := base.Walk(func(e layers.Entry, _ int) error {
		if e.Path != "" {
			d.was = append(d.was, e)
		}
		d.linked = d.linked || e.Kind == layers.File && e.Inode != 0
		return nil
	})
	for _, s := range all {
		if err != nil || d.linked || s.entry.Kind == layers.Hardlink {
			d.linked = true
			return err
		}
		d.goneBefore(s.entry.Path)
		err = d.compare(ctx, s)
	}
	d.goneBefore("")
	return err
}

// goneBefore notes the paths before p, or all that are left if p is "", that the
// copy does not have.
func (d *differences) goneBefore(p string) {
	for len(d.was) > 0 && (p == "" || layers.ComparePaths(d.was[0].Path, p) < 0) {
		at := d.was[0].Path
		d.was = d.was[1:]
		if d.hidden != "" && layers.Under(at, d.hidden) {
			continue
		}
		d.hidden = at
		d.leave(at)
		d.add(step{entry: layers.Entry{Path: at, Kind: layers.Whiteout}})
	}
}

// add notes what has to be written, with the directories that lead to it.
func (d *differences) add(s step) {
	for _, e := range d.above {
		d.found = append(d.found, step{entry: e})
	}
	d.above = d.above[:0]
	d.found = append(d.found, s)
}

// leave drops the unchanged directories that p is not in.
func (d *differences) leave(p string) {
	above := d.above
	for len(above) > 0 && !layers.Under(p, above[len(above)-1].Path) {
		above = above[:len(above)-1]
	}
	d.above = above
}

// compare adds a step if it makes a difference.
func (d *differences) compare(ctx context.Context, s step) error {
	d.leave(s.entry.Path)
	same := false
	if len(d.was) > 0 && d.was[0].Path == s.entry.Path {
		var err error
		if same, err = sameEntry(ctx, s, d.was[0]); err != nil {
			return err
		}
		if s.entry.Kind != layers.Dir {
			d.hidden = s.entry.Path
		}
		d.was = d.was[1:]
	}
	switch {
	case !same:
		d.add(s)
	case s.entry.Kind == layers.Dir:
		d.above = append(d.above, s.entry)
	}
	return nil
}

// sameEntry reports whether an entry of the copy is what was there. Content is
// compared last: its digest may have to be computed.
func sameEntry(ctx context.Context, s step, was layers.Entry) (bool, error) {
	e := s.entry
	if e.Kind != was.Kind || e.Mode != was.Mode || e.UID != was.UID || e.GID != was.GID || seconds(e.ModTime) != seconds(was.ModTime) ||
		e.DevMajor != was.DevMajor || e.DevMinor != was.DevMinor || !maps.Equal(e.Xattrs, was.Xattrs) {
		return false, nil
	}
	switch e.Kind {
	case layers.Symlink:
		return e.Target == was.Target, nil
	case layers.File:
		if e.Size != was.Size || !was.Sum.Known() {
			return false, nil
		}
		d, err := s.content.digest(ctx, s.from)
		if err != nil {
			return false, fmt.Errorf("hashing /%s: %w", e.Path, err)
		}
		return layers.SumOf(d) == was.Sum, nil
	}
	return true, nil
}

// seconds is a time as layers keep it.
func seconds(nanoseconds int64) int64 { return time.Unix(0, nanoseconds).Unix() }
