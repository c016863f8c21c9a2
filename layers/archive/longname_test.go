package archive

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"
	"time"
)

// FuzzLongName: headers have the bytes that tar.Writer gives them.
func FuzzLongName(f *testing.F) {
	dir := strings.Repeat("0123456/", 40)
	for _, name := range []string{
		"short", dir, dir[:256], dir[:257], dir + "file", dir[:96] + "abc/" + dir, dir[:96] + "ab/" + dir, "d/" + strings.Repeat("x", 300),
		dir[:96] + "123/" + strings.Repeat("x", 300), dir[:96] + "12/" + strings.Repeat("x", 300), dir[:96] + "1234/" + strings.Repeat("x", 300),
		dir + "é", dir + "\x00", strings.Repeat(dir, 3), dir + strings.Repeat("x", 1000-len(dir)-11), dir + strings.Repeat("x", 999-len(dir)-11),
	} {
		f.Add(name, "", byte(tar.TypeReg), 0, 0, int64(0), int64(1e9))
		f.Add(name, "to", byte(tar.TypeSymlink), 1000, 0, int64(0), int64(0))
		f.Add(name+"/", "", byte(tar.TypeDir), 1<<21, 5, int64(0), int64(1<<33-1))
	}
	f.Add(dir, dir, byte(tar.TypeLink), 1, 1<<21-1, int64(0), int64(1<<33))
	f.Add(dir+"f", "", byte(tar.TypeReg), -1, 0, int64(1<<33), int64(-1))
	f.Add(dir+"c", "", byte(tar.TypeChar), 0, 0, int64(1<<21), int64(1))
	f.Fuzz(func(t *testing.T, name, link string, kind byte, uid, gid int, size, sec int64) {
		// As tarHeader makes them of clean paths.
		var names []string
		for _, n := range strings.Split(name, "/") {
			if n != "" && n != "." && n != ".." {
				names = append(names, n)
			}
		}
		name = strings.Join(names, "/")
		h := &tar.Header{Name: name, Linkname: link, Typeflag: kind, Mode: 0o7755, Uid: uid, Gid: gid, ModTime: time.Unix(sec, 0)}
		switch kind {
		case tar.TypeReg:
			h.Size = size
		case tar.TypeDir:
			h.Name += "/"
		case tar.TypeChar:
			h.Devmajor, h.Devminor = size, 3
		case tar.TypeSymlink, tar.TypeLink, tar.TypeFifo:
		default:
			return
		}
		var want, got bytes.Buffer
		wantErr := tar.NewWriter(&want).WriteHeader(h)
		err := newStream(&got, nil, nil).writeHeader(h)
		if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Errorf("%q (%d bytes): %v, want %v, with %d bytes:\n%q\nwant %d:\n%q", h.Name, len(h.Name), err, wantErr, got.Len(), got.Bytes(), want.Len(), want.Bytes())
		}
	})
}

// TestLongestName: a name that is too long for an extended header is refused, as no
// program would read it.
func TestLongestName(t *testing.T) {
	const limit = 1 << 20 // of archive/tar, for an extended header
	for _, size := range []int{limit - 21, limit - 20, limit - 14, limit - 13, limit} {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("x/", size)[:size-1] + "x", ModTime: time.Unix(1, 0)}
		var want, got bytes.Buffer
		wantErr := tar.NewWriter(&want).WriteHeader(h)
		err := newStream(&got, nil, nil).writeHeader(h)
		if (err == nil) != (wantErr == nil) || !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Errorf("%d bytes: %v and %d bytes, want %v and %d", size, err, got.Len(), wantErr, want.Len())
		}
	}
}
