package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// What the usual tools compress is recognised and read.
func TestDecompress(t *testing.T) {
	data, _ := writeTar(t, small())
	for kind, args := range map[string][]string{
		Gzip: {"gzip", "-nc"}, Bzip2: {"bzip2", "-c"}, XZ: {"xz", "-9ec"}, Zstd: {"zstd", "-qc"}, Uncompressed: {"cat"},
	} {
		t.Run(kind, func(t *testing.T) {
			tool := need(t, args[0])
			for _, want := range [][]byte{data, {}} {
				packed := []byte(run(t, tool, append(args[1:], writeFile(t, "in", want))...))
				rc, got, err := Decompress(iotest.OneByteReader(bytes.NewReader(packed)))
				if err != nil || got != kind {
					t.Fatalf("%q: %v", got, err)
				}
				plain, err := io.ReadAll(rc)
				if err = errors.Join(err, rc.Close()); err != nil || !bytes.Equal(plain, want) {
					t.Errorf("%d bytes of %d: %v", len(plain), len(want), err)
				}
				if ok, err := IsArchive(bytes.NewReader(packed)); err != nil || ok != (len(want) > 0) {
					t.Errorf("IsArchive says %v, %v", ok, err)
				}
				if kind == Uncompressed || len(want) == 0 {
					continue
				}
				rc, _, err = Decompress(bytes.NewReader(packed[:len(packed)/2]))
				if err == nil {
					_, err = io.Copy(io.Discard, rc)
					err = errors.Join(err, rc.Close())
				}
				if err == nil {
					t.Error("half a stream is accepted")
				}
			}
		})
	}
}

func TestIsArchiveNot(t *testing.T) {
	for name, data := range map[string]string{
		"empty": "", "text": "hello\n", "zeros": string(make([]byte, 4096)), "long text": strings.Repeat("hello ", 1000),
		"magic only": "\x1f\x8b\x08", "xz magic": "\xfd7zXZ\x00", "bzip2-like": "BZh91AY&SY", "word": "BZh9 is not bzip2",
	} {
		if ok, err := IsArchive(strings.NewReader(data)); ok || err != nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
	if _, err := IsArchive(iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("an error of the disk becomes %v", err)
	}
}

// A stream that wants gigabytes for its dictionary is refused.
func TestDecompressDictionary(t *testing.T) {
	block := []byte{2, 0, 0x21, 1, 40, 0, 0, 0} // 4 GiB
	block = binary.LittleEndian.AppendUint32(block, crc32.ChecksumIEEE(block))
	stream := append([]byte{0xfd, '7', 'z', 'X', 'Z', 0, 0, 1, 0x69, 0x22, 0xde, 0x36}, block...)
	if _, _, err := Decompress(bytes.NewReader(append(stream, 1, 2, 3, 4))); err == nil || !strings.Contains(err.Error(), "dictionary") {
		t.Errorf("xz: %v", err)
	}
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8, 1, 0, 0, 'x'} // window of 2 GiB
	rc, _, err := Decompress(bytes.NewReader(frame))
	if err == nil {
		_, err = io.Copy(io.Discard, rc)
		err = errors.Join(err, rc.Close())
	}
	if err == nil {
		t.Error("zstd: accepted")
	}
}

func FuzzDecompress(f *testing.F) {
	for _, c := range compressions {
		blob, _, _ := pack(f, small()[:5], c, nil)
		f.Add(blob)
	}
	f.Add([]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3\x01\x00\x00x\x00"))
	f.Add([]byte("BZh91AY&SY\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rc, kind, err := Decompress(bytes.NewReader(data))
		if err != nil {
			return
		}
		n, err := io.Copy(io.Discard, io.LimitReader(rc, 8<<20))
		if err = errors.Join(err, rc.Close()); err == nil && kind == Uncompressed && n != int64(len(data)) {
			t.Errorf("%d bytes of %d", n, len(data))
		}
		if _, err := IsArchive(bytes.NewReader(data)); err != nil {
			t.Error(err)
		}
	})
}
