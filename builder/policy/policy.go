// Package policy reads source policies and obeys them: rules that allow or deny the
// sources of a build, or convert them into others. BuildKit's own engine applies the
// rules; this package reads their file as buildx does, and finds the rule that an error
// comes from. It fetches nothing and looks nothing up.
package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/sourcepolicy"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/buildkit/util/gitutil"

	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// Policy is the rules of one file.
type Policy struct {
	file   string
	rules  []*spb.Rule
	engine *sourcepolicy.Engine
}

// Parse reads the policy that data holds: JSON, or else BuildKit's protobuf message. An
// empty file has no rules. As in buildx, a field of an unknown name counts for nothing;
// ignored says which that is, and is "" if all are known. file is what errors call the
// policy.
func Parse(file string, data []byte) (p *Policy, ignored string, err error) {
	var message spb.Policy
	if err := json.Unmarshal(data, &message); err != nil {
		if !isMessage(data, &message) {
			return nil, "", hint.Add(fmt.Errorf("the source policy %s: %w", file, err), form)
		}
	} else {
		ignored = unknownField(data)
	}
	if err := check(message.Rules); err != nil {
		return nil, "", hint.Add(fmt.Errorf("the source policy %s: %w", file, err), form)
	}
	return &Policy{file, message.Rules, sourcepolicy.NewEngine([]*spb.Policy{&message})}, ignored, nil
}

const form = `write {"rules": [{"action": "DENY", "selector": {"identifier": "docker-image://*"}}]}; ` +
	"the actions are ALLOW, DENY and CONVERT"

// isMessage reads BuildKit's protobuf message. Unlike buildx it takes nothing for one
// that says nothing it knows: a text file would then be a policy without rules.
func isMessage(data []byte, message *spb.Policy) bool {
	message.Reset()
	if len(data) == 0 {
		return true
	}
	err := message.UnmarshalVT(data)
	return err == nil && len(message.Rules) > 0 && len(message.ProtoReflect().GetUnknown()) == 0
}

// unknownField names the first field that the JSON of a policy has and a policy has not.
func unknownField(data []byte) string {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&spb.Policy{}); err != nil {
		return strings.TrimPrefix(err.Error(), "json: ")
	}
	return ""
}

// check refuses what the engine cannot work with, as BuildKit does.
func check(rules []*spb.Rule) error {
	for i, r := range rules {
		switch {
		case r == nil:
			return fmt.Errorf("rule %d is null", i+1)
		case r.Selector == nil:
			return fmt.Errorf("rule %d has no selector", i+1)
		}
		for _, c := range r.Selector.Constraints {
			if c == nil {
				return fmt.Errorf("rule %d has a constraint that is null", i+1)
			}
		}
	}
	return nil
}

// Evaluate is a parser.Policy: it returns s as the rules convert it, or an error if they
// deny it.
func (p *Policy) Evaluate(s parser.Source) (parser.Source, error) {
	op := &pb.SourceOp{Identifier: s.Identifier, Attrs: maps.Clone(s.Attrs)}
	converted, err := evaluate(p.engine, op)
	if err == nil && converted {
		err = checkGit(op)
	}
	if err != nil {
		return parser.Source{}, p.refusal(s, op, err)
	}
	return parser.Source{Identifier: op.Identifier, Attrs: op.Attrs}, nil
}

// evaluate lets an engine change op. The engine wants a context for its logger alone.
func evaluate(e *sourcepolicy.Engine, op *pb.SourceOp) (converted bool, err error) {
	return e.Evaluate(context.Background(), op)
}

// refusal is the error for a source that the rules have made op of.
func (p *Policy) refusal(s parser.Source, op *pb.SourceOp, err error) error {
	text := fmt.Sprintf("source %q", parser.Redact(op.Identifier))
	if op.Identifier != s.Identifier {
		text += fmt.Sprintf(" (in place of %q)", parser.Redact(s.Identifier))
	}
	where, advice := "the source policy "+p.file, "correct the rule"
	if n := p.rule(op, err); n > 0 {
		r := p.rules[n-1]
		where = fmt.Sprintf("rule %d of %s (%s %s)", n, where, r.Action, r.GetSelector().GetIdentifier())
	}
	switch {
	case errors.Is(err, sourcepolicy.ErrSourceDenied):
		return hint.Add(fmt.Errorf("%s denied by policy: %s", text, where), deniedHint(op))
	case errors.Is(err, sourcepolicy.ErrTooManyOps):
		advice = "its CONVERT rules apply to what they have made, over and over: let them match only what has to be converted"
	case errors.Is(err, errGit):
		advice = `name the repository in both places: "updates": {"identifier": "git://HOST/PATH", "attrs": {"git.fullurl": "https://HOST/PATH"}}`
	}
	return hint.Add(fmt.Errorf("%s: %s: %w", text, where, err), advice)
}

func deniedHint(op *pb.SourceOp) string {
	advice := "use a source that the policy allows, or add a rule with ALLOW: of those that match, the last counts"
	if strings.HasPrefix(op.Identifier, "docker-image://") && strings.Contains(op.Identifier, "@") {
		advice += "; an image is checked with its digest, too: let a rule for a tag end in *"
	}
	return advice
}

// rule returns the number of the last rule that alone gives op the same error, counted
// from 1; 0 if none does. It is the rule that denied a source: after it no other rule
// that matches allows it.
func (p *Policy) rule(op *pb.SourceOp, err error) int {
	for n := len(p.rules); n > 0; n-- {
		alone := sourcepolicy.NewEngine([]*spb.Policy{{Rules: p.rules[n-1 : n]}})
		if _, other := evaluate(alone, op.CloneVT()); other != nil && other.Error() == err.Error() {
			return n
		}
	}
	return 0
}

// errGit is BuildKit's error for a repository that is converted in part. What would be
// fetched is not what the policy says.
var errGit = errors.New("git.fullurl does not match source identifier")

// checkGit compares the two names that a repository has in an operation.
func checkGit(op *pb.SourceOp) error {
	name, isGit := strings.CutPrefix(op.Identifier, "git://")
	full := op.Attrs[pb.AttrFullRemoteURL]
	if !isGit || full == "" {
		return nil
	}
	a, errA := repository(name)
	b, errB := repository(full)
	if errA != nil || errB != nil || a != b {
		return errGit
	}
	return nil
}

// repository is the host and path of an address, as BuildKit compares them.
func repository(address string) (string, error) {
	if !gitutil.IsGitTransport(address) {
		address = "https://" + address
	}
	u, err := gitutil.ParseURL(address)
	if err != nil {
		return "", err
	}
	return strings.ToLower(u.Host) + strings.TrimSuffix(path.Join("/", u.Path), ".git"), nil
}
