package layers

import (
	"slices"
	"sync"
)

// Names are the first paths of the files that have several.
type Names map[Inode]string

// Join makes e a Hardlink to the first path of its file, if that was passed before.
// Several names of a symlink stay symlinks of their own.
func (n Names) Join(e *Entry) {
	if e.Inode == 0 || e.Kind == Symlink {
		return
	}
	if first, known := n[e.Inode]; known {
		*e = e.LinkTo(first)
		return
	}
	n[e.Inode] = e.Path
}

// viewed is the tree of one layer of a view.
type viewed struct {
	*Tree
	// linked are the indexes of the entries that hardlinks name, sorted.
	linked []int
	once   sync.Once
}

// file returns the entry with index i, which is not a directory, as a View does. layer
// is the index of t in the view.
func (t *viewed) file(layer, i int) Entry {
	t.once.Do(t.findLinked)
	e := t.Entries[i]
	if e.Kind == Hardlink {
		file, ok := t.Find(e.Link)
		if !ok || !t.Entries[file].Kind.Linkable() {
			return e
		}
		name := e.Path
		i, e = file, t.Entries[file]
		e.Path = name
	}
	if _, several := slices.BinarySearch(t.linked, i); several {
		e.Inode = Inode(layer+1)<<32 | Inode(i)
	}
	return e
}

func (t *viewed) findLinked() {
	for i := range t.Entries {
		if t.Entries[i].Kind != Hardlink {
			continue
		}
		if file, ok := t.Find(t.Entries[i].Link); ok {
			t.linked = append(t.linked, file)
		}
	}
	slices.Sort(t.linked)
	t.linked = slices.Compact(t.linked)
}
