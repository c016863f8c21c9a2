package attest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/manifest"
)

// Unbundle reads the statements that a scanner has written, by the names of their files.
// That of the file whose name begins with core and a dot comes first. As with BuildKit, a
// scanner that was asked for predicates of one type may not state anything else.
func Unbundle(files map[string][]byte, core, predicateType string) ([]Attestation, error) {
	names := slices.Sorted(maps.Keys(files))
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(isNamed(b, core), isNamed(a, core)) })
	var list []Attestation
	for _, name := range names {
		a, err := parseStatement(files[name], predicateType)
		if err != nil {
			return nil, fmt.Errorf("the scanner's file %q: %w", name, err)
		}
		a.File = name
		list = append(list, a)
	}
	return list, nil
}

func isNamed(file, name string) int {
	if stem, _, _ := strings.Cut(file, "."); stem == name {
		return 1
	}
	return 0
}

func parseStatement(data []byte, predicateType string) (a Attestation, err error) {
	var s statement
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&s); err != nil {
		return a, fmt.Errorf("reading the in-toto statement: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return a, errors.New("reading the in-toto statement: something follows it")
	}
	switch {
	case s.PredicateType == "":
		return a, errors.New("it is not an in-toto statement: it has no predicateType")
	case strings.HasPrefix(s.PredicateType, manifest.PredicateSLSA):
		return a, errors.New("it is about how the image was built, which a scanner cannot know")
	case s.PredicateType != predicateType:
		return a, fmt.Errorf("its predicateType is %q, and has to be %q", s.PredicateType, predicateType)
	case len(s.Predicate) == 0:
		return a, errors.New("the statement has no predicate")
	}
	a = Attestation{Type: s.PredicateType, Predicate: s.Predicate}
	for _, subject := range s.Subject {
		if err := subject.check(); err != nil {
			return a, fmt.Errorf("subject %q: %w", subject.Name, err)
		}
		kept := Subject{cmp.Or(subject.Name, "_"), map[string]string{}}
		maps.Copy(kept.Digest, subject.Digest)
		a.Subjects = append(a.Subjects, kept)
	}
	return a, nil
}

// check refuses a malformed digest. Statements may have algorithms that images do not,
// such as gitCommit: those pass.
func (s Subject) check() error {
	for _, name := range slices.Sorted(maps.Keys(s.Digest)) {
		if algorithm := digest.Algorithm(name); algorithm.Available() {
			if err := algorithm.Validate(s.Digest[name]); err != nil {
				return fmt.Errorf("digest %s:%s: %w", name, s.Digest[name], err)
			}
		}
	}
	return nil
}
