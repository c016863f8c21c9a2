package parser

import (
	"errors"
	"fmt"
	"slices"

	"github.com/moby/buildkit/solver/pb"
)

// Source is where files come from, as BuildKit and source policies spell it.
type Source struct {
	// Identifier is a URL: docker-image://docker.io/library/debian:12,
	// oci-layout://NAME@sha256:…, git://HOST/PATH#REF:DIR, https://…, local://NAME.
	Identifier string
	// Attrs say more of it, by the names in BuildKit's solver/pb/attr.go, such as
	// http.checksum.
	Attrs map[string]string
}

// SourceOp returns the operation for a source that is not fetched through the frontend,
// as a Dockerfile at an address is not, after the policy was asked.
func (r Request) SourceOp(s Source) (Op, error) {
	op, err := r.Policy.apply(&pb.SourceOp{Identifier: s.Identifier, Attrs: s.Attrs})
	if err != nil {
		return nil, err
	}
	return source(op)
}

// Policy returns the source that is used in place of the one that the build names, or
// an error if that must not be used. A nil Policy keeps every source. It is asked where
// BuildKit asks: before anything is found out about a source, and again about what is in
// the graph, where an image has its digest. It changes no map that it is given, and may
// be called concurrently.
type Policy func(Source) (Source, error)

// apply returns the operation for the source that the policy has in place of op, which
// stays as it is: the frontend may use it again.
func (p Policy) apply(op *pb.SourceOp) (*pb.SourceOp, error) {
	if p == nil {
		return op, nil
	}
	s, err := p(Source{Identifier: op.Identifier, Attrs: op.Attrs})
	if err != nil {
		return nil, &refusedError{err}
	}
	used := &pb.SourceOp{Identifier: s.Identifier, Attrs: s.Attrs}
	if _, err := source(used); err != nil {
		return nil, &refusedError{&Error{
			Msg:  Redact(fmt.Sprintf("source %q as the source policy converts it: %v", op.Identifier, err)),
			Hint: "correct the updates of the rule; sources begin with docker-image://, oci-layout://, git://, http://, https:// or local://",
			Err:  err,
		}}
	}
	return used, nil
}

// refusedError is what a policy has against a source.
type refusedError struct{ error }

func (e *refusedError) Unwrap() error { return e.error }

// refused reports whether an error comes from a policy.
func refused(e *Error) bool {
	var r *refusedError
	return errors.As(e.Err, &r)
}

// source translates the source operation of n, after the policy was asked. One that must
// not be used is noted for problem: its place is known once all nodes are there.
func (t *translation) source(n *Node, op *pb.SourceOp) (Op, error) {
	used, err := t.policy.apply(op)
	if err != nil {
		if t.refused == nil {
			t.refused = &refusal{n, err}
		}
		used = op
	}
	return source(used)
}

// refusal is a node whose source must not be used, and why.
type refusal struct {
	node *Node
	err  error
}

// problem is the error of the first source that must not be used; nil if all may. e is
// the Dockerfile that the graph comes from, which may be nil.
func (t *translation) problem(e *entry) error {
	if t.refused == nil {
		return nil
	}
	p := &Error{Msg: Redact(t.refused.err.Error()), Err: t.refused.err}
	if at := t.use(t.refused.node); e != nil && at != nil {
		p.Source, p.Ranges = e.file(), at
	}
	return p
}

// use returns the place of a source, or else of the first step that uses it.
func (t *translation) use(source *Node) []Range {
	for _, n := range t.nodes {
		if len(n.Pos) > 0 && (n == source || slices.ContainsFunc(n.Inputs, func(in Input) bool { return in.Node == source })) {
			return n.Pos
		}
	}
	return nil
}
