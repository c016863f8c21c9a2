package catalog

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/sinter-build/sinter/layers"
)

// typed finds the programs and libraries of a layer by the first bytes of its files,
// and returns their MIME types by their paths, as syft calls them. Only files that
// could be programs are looked at: executable ones, and those with a library's name.
// It goes by the layer alone, whatever other layers hide of it.
func (im *Image) typed(ctx context.Context, layer int) (map[string]string, error) {
	types := map[string]string{}
	for _, e := range im.trees[layer].Entries {
		if e.Kind != layers.File || e.Size < minProgram || !likelyProgram(e) {
			continue
		}
		head, err := im.head(ctx, layers.Named{Entry: e, Layer: layer})
		if err != nil {
			return nil, err
		}
		if t := mimeType(head); t != "" {
			types[e.Path] = t
		}
	}
	return types, nil
}

// minProgram is the length of the shortest header that is looked for.
const minProgram = 20

func likelyProgram(e layers.Entry) bool {
	name := path.Base(e.Path)
	return e.Mode&0o111 != 0 || strings.Contains(name, ".so") ||
		slices.Contains([]string{".dll", ".exe", ".bpl", ".dylib", ".node", ".ko"}, strings.ToLower(path.Ext(name)))
}

// head returns the first bytes of a file.
func (im *Image) head(ctx context.Context, n layers.Named) ([]byte, error) {
	r, err := im.open(ctx, n.Layer, n.Entry)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	head := make([]byte, min(n.Size, 4096))
	_, err = io.ReadFull(r, head)
	return head, err
}

// mimeType returns the MIME type of a program or library that begins with head, and ""
// for everything else.
func mimeType(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return elfType(head)
	case bytes.HasPrefix(head, []byte("MZ")):
		return "application/vnd.microsoft.portable-executable"
	}
	// A Java class begins as a universal Mach-O does; there the next number is its
	// version, and here how many architectures there are.
	switch magic := binary.BigEndian.Uint32(head); magic {
	case 0xfeedface, 0xfeedfacf, 0xcefaedfe, 0xcffaedfe:
		return "application/x-mach-binary"
	case 0xcafebabe:
		if binary.BigEndian.Uint32(head[4:]) < 20 {
			return "application/x-mach-binary"
		}
	}
	return ""
}

func elfType(head []byte) string {
	order := binary.ByteOrder(binary.LittleEndian)
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	switch elf.Type(order.Uint16(head[elf.EI_NIDENT:])) {
	case elf.ET_EXEC:
		return "application/x-executable"
	case elf.ET_DYN:
		return "application/x-sharedlib"
	case elf.ET_REL:
		return "application/x-object"
	case elf.ET_CORE:
		return "application/x-coredump"
	}
	return "application/x-elf"
}
