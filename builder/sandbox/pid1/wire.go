package pid1

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// codec writes or reads the fields of a message one after the other. Both ways
// go through the same list of fields, and need no reflection: an init starts
// for every command.
type codec struct {
	buf     []byte
	reading bool
	err     error
}

func (c *codec) uint(v *uint64) {
	if !c.reading {
		c.buf = binary.AppendUvarint(c.buf, *v)
		return
	}
	n, size := binary.Uvarint(c.buf)
	if size <= 0 {
		c.err = errors.New("the message is damaged")
		c.buf = nil
		return
	}
	*v, c.buf = n, c.buf[size:]
}

func number[T ~int | ~int64 | ~uint32 | ~uint64](c *codec, v *T) {
	n := uint64(*v)
	c.uint(&n)
	*v = T(n)
}

func (c *codec) bool(v *bool) {
	var n uint64
	if *v {
		n = 1
	}
	c.uint(&n)
	*v = n == 1
}

func text[T ~string | ~[]byte](c *codec, v *T) {
	n := uint64(len(*v))
	c.uint(&n)
	if !c.reading {
		c.buf = append(c.buf, *v...)
		return
	}
	if n > uint64(len(c.buf)) {
		c.err = errors.New("the message is damaged")
		c.buf = nil
		return
	}
	*v, c.buf = T(c.buf[:n]), c.buf[n:]
}

// list passes every element to a function.
func list[T any](c *codec, v *[]T, element func(*codec, *T)) {
	n := uint64(len(*v))
	c.uint(&n)
	if c.reading {
		*v = nil
		for i := uint64(0); i < n && c.err == nil; i++ {
			var e T
			element(c, &e)
			*v = append(*v, e)
		}
		return
	}
	for i := range *v {
		element(c, &(*v)[i])
	}
}

func (p *Plan) code(c *codec) {
	list(c, &p.Lower, text)
	text(c, &p.Upper)
	text(c, &p.Work)
	text(c, &p.Stage)
	list(c, &p.Args, text)
	list(c, &p.Env, text)
	text(c, &p.Cwd)
	text(c, &p.User)
	text(c, &p.Hostname)
	c.bool(&p.OwnNetwork)
	c.bool(&p.Insecure)
	c.bool(&p.UserNS)
	c.bool(&p.Single)
	c.bool(&p.TTYGroup)
	list(c, &p.Mounts, func(c *codec, m *Mount) { m.code(c) })
	list(c, &p.Limits, func(c *codec, l *Limit) {
		number(c, &l.Resource)
		number(c, &l.Soft)
		number(c, &l.Hard)
	})
	number(c, &p.Caps)
	text(c, &p.ResolvConf)
	text(c, &p.Hosts)
	text(c, &p.Filter)
	text(c, &p.FakeRoot)
	number(c, &p.Broker)
	number(c, &p.SysNetwork)
	number(c, &p.FilterFlags)
}

func (m *Mount) code(c *codec) {
	text(c, &m.Type)
	text(c, &m.Dest)
	c.bool(&m.ReadOnly)
	text(c, &m.Source)
	list(c, &m.Lower, text)
	text(c, &m.Upper)
	text(c, &m.Work)
	text(c, &m.Selector)
	text(c, &m.Data)
	number(c, &m.UID)
	number(c, &m.GID)
	number(c, &m.Mode)
	number(c, &m.Size)
	number(c, &m.FD)
}

func (r *Report) code(c *codec) {
	text(c, &r.Err)
	text(c, &r.Hint)
	c.bool(&r.Ended)
	text(c, &r.Reason)
	number(c, &r.ExitCode)
	number(c, &r.Signal)
	number(c, &r.MaxRSS)
	c.bool(&r.OtherHostname)
	list(c, &r.Stubs, text)
}

// maxMessage bounds a message, in bytes: secrets are in it, files are not.
const maxMessage = 1 << 30

type message interface{ code(*codec) }

func writeMessage(w io.Writer, m message) error {
	var c codec
	m.code(&c)
	frame := binary.LittleEndian.AppendUint64(make([]byte, 0, 8+len(c.buf)), uint64(len(c.buf)))
	_, err := w.Write(append(frame, c.buf...))
	return err
}

func readMessage(r io.Reader, m message) error {
	var size [8]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint64(size[:])
	if n > maxMessage {
		return fmt.Errorf("the message is of %d bytes", n)
	}
	c := codec{reading: true, buf: make([]byte, n)}
	if _, err := io.ReadFull(r, c.buf); err != nil {
		return err
	}
	m.code(&c)
	if c.err == nil && len(c.buf) > 0 {
		return errors.New("the message is longer than it should be")
	}
	return c.err
}

// WritePlan sends a plan to an init.
func WritePlan(w io.Writer, p *Plan) error { return writeMessage(w, p) }

func readPlan(r io.Reader, p *Plan) error { return readMessage(r, p) }

func writeReport(w io.Writer, r *Report) error { return writeMessage(w, r) }

// ReadReport waits for what an init reports. It is io.EOF when the init ended
// without a report.
func ReadReport(r io.Reader, to *Report) error { return readMessage(r, to) }
