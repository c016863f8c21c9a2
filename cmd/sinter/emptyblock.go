package main

import (
	"bytes"
	"io"
	"os"
)

// withoutEmptyBlocks passes on what the display writes, without the blocks at its
// end that name a failed step and show nothing that it printed. flush writes what is
// held back.
//
// The display makes a block for every step that has an error, and has no option against
// it. A step whose error were kept from the display would be shown as done, so what it
// writes is the place for this. In another version of the display that writes blocks
// differently, the empty ones come back and nothing is lost.
func withoutEmptyBlocks(out io.Writer) (w io.Writer, flush func()) {
	b := &blockFilter{out: out}
	if f, ok := out.(*os.File); ok {
		return &terminalFilter{f, b}, b.flush
	}
	return b, b.flush
}

// blockFilter holds back what may be an empty block: a rule, and the name of a step.
// The display writes each line of them at once.
type blockFilter struct {
	out  io.Writer
	held [][]byte
}

var blockRule = []byte("------\n")

func (b *blockFilter) Write(p []byte) (int, error) {
	isRule := bytes.Equal(p, blockRule)
	isName := bytes.HasPrefix(p, []byte(" > ")) && bytes.HasSuffix(p, []byte(":\n"))
	switch {
	case len(b.held) == 2 && isRule:
		b.held = nil
	case len(b.held) == 1 && isName:
		b.held = append(b.held, bytes.Clone(p))
	case isRule:
		b.flush()
		b.held = [][]byte{blockRule}
	default:
		b.flush()
		return b.out.Write(p)
	}
	return len(p), nil
}

func (b *blockFilter) flush() {
	for _, line := range b.held {
		_, _ = b.out.Write(line)
	}
	b.held = nil
}

// terminalFilter is a blockFilter of a terminal, which the display asks for more.
type terminalFilter struct {
	*os.File
	blocks *blockFilter
}

func (t *terminalFilter) Write(p []byte) (int, error) { return t.blocks.Write(p) }
