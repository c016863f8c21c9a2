package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers/folder"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func record(command string) *Record {
	r := Recipe{{Name: "command", Value: command}}
	return &Record{
		Key: r.Key(), Name: "RUN " + command, Parts: r,
		Outputs:  []Output{{Layers: []string{"a", "b"}}, {Layers: []string{}}},
		Duration: time.Second, Created: time.Unix(1, 0).UTC(),
	}
}

func TestRecordsComeBack(t *testing.T) {
	s, want := open(t), record("make")
	if _, err := s.Get(want.Key); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("before it was put: %v", err)
	}
	if err := s.Put(want); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(want.Key)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if all, err := s.All(t.Context()); err != nil || len(all) != 1 || all[0].Size == 0 {
		t.Fatalf("All: %+v, %v", all, err)
	}
	for range 2 {
		if err := s.Remove(want.Key); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Get(want.Key); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("after it was removed: %v", err)
	}
}

func TestDamagedRecordIsAMiss(t *testing.T) {
	s, r := open(t), record("make")
	if err := s.Put(r); err != nil {
		t.Fatal(err)
	}
	path := s.stepPath(r.Key)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte{}, good...)
	flipped[len(flipped)/2] ^= 1
	other, err := encodeRecord(record("another"))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"empty": {}, "torn": good[:len(good)/2], "flipped": flipped, "another step's": other,
	} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(r.Key); !errors.Is(err, folder.ErrCorrupt) {
			t.Errorf("%s record: %v", name, err)
		}
	}
	if all, err := s.All(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("All believes it: %+v, %v", all, err)
	}
}

func TestContentIsRemembered(t *testing.T) {
	s, chain, want := open(t), []string{"base", "made"}, digest.FromString("files")
	if _, ok := s.Content(chain, "/a"); ok {
		t.Fatal("nobody has put it")
	}
	if err := s.PutContent(chain, "/a", want); err != nil {
		t.Fatal(err)
	}
	if got, ok := s.Content(chain, "/a"); !ok || got != want {
		t.Fatalf("got %v %v", got, ok)
	}
	if _, ok := s.Content(chain, "/b"); ok {
		t.Fatal("another selection has the same digest")
	}
	for _, other := range [][]string{nil, {"base"}, {"base", "made", "made"}, {"made", "base"}, {"basemade"}} {
		if _, ok := s.Content(other, "/a"); ok {
			t.Fatalf("the layers %q have the same digest", other)
		}
	}
	if err := os.WriteFile(s.contentPath(chain, "/a"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Content(chain, "/a"); ok {
		t.Fatal("a damaged file was believed")
	}
}

func TestLockLetsOneAtATime(t *testing.T) {
	s, key := open(t), record("make").Key
	var inside, most atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			unlock, err := s.Lock(context.Background(), key, "RUN true")
			if err != nil {
				t.Error(err)
				return
			}
			if n := inside.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(time.Millisecond)
			inside.Add(-1)
			unlock()
		})
	}
	wg.Wait()
	if most.Load() != 1 {
		t.Errorf("%d were inside at once", most.Load())
	}
	if left, _ := filepath.Glob(filepath.Join(s.root, "locks", "step-*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestLockCanBeGivenUp(t *testing.T) {
	s, key := open(t), record("make").Key
	unlock, err := s.Lock(context.Background(), key, "RUN true")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(ctx, key, "RUN true"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	r := record("make")
	good, err := encodeRecord(r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(folder.Seal([]byte(`{"key":"00"}`)))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeRecord(r.Key, data)
		if err == nil && got.Key != r.Key {
			t.Errorf("a record about another key: %v", got.Key)
		}
		// The seal keeps most input from the decoder, so it is put on as well.
		if got, err := decodeRecord(r.Key, folder.Seal(data)); err == nil && got.Key != r.Key {
			t.Errorf("a record about another key: %v", got.Key)
		}
	})
}

// Files are written where there are none and in place of others, also of what is
// no file; no temporary one stays.
func TestWrite(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.root, "steps", "ab", "file")
	for i, before := range []func() error{
		func() error { return nil },
		func() error { return nil },
		func() error { return os.Remove(path) },
		func() error { return errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "x"), 0o755)) },
	} {
		if err := before(); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprint("text ", i)
		if err := s.write(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%d: got %q, %v", i, got, err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(s.root, "tmp")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestAllEnds: whoever reads all records stops when the context ends.
func TestAllEnds(t *testing.T) {
	s := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if all, err := s.All(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", all, err)
	}
}
