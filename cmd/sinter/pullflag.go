package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers/hint"
)

// pullFlag is the flag --pull of build: docker's without a value, or podman's with a
// policy.
type pullFlag struct {
	text   string
	policy *registry.Policy
}

func (p *pullFlag) String() string { return p.text }
func (p *pullFlag) Type() string   { return "policy" }

// Set implements pflag.Value.
func (p *pullFlag) Set(text string) error {
	policy, err := registry.ParsePolicy(text)
	if err != nil {
		return err
	}
	p.text, p.policy = text, &policy
	return nil
}

// pullAlias is a flag --pull-POLICY, which is --pull=POLICY unless it is false.
type pullAlias struct {
	pull   *pullFlag
	policy string
}

func (p *pullAlias) String() string { return "" }
func (p *pullAlias) Type() string   { return "bool" }

// Set implements pflag.Value.
func (p *pullAlias) Set(text string) error {
	on, err := strconv.ParseBool(text)
	if err != nil || !on {
		return err
	}
	return p.pull.Set(p.policy)
}

// must reports whether every base image is asked for.
func (p *pullFlag) must() bool { return p.policy != nil && p.policy.Must }

// checkArgs wants one argument. A policy that stands apart from --pull is another.
func (f *buildFlags) checkArgs(c *cobra.Command, args []string) error {
	err := exactArgs(1)(c, args)
	if err != nil && f.pull.policy != nil && len(args) == 2 {
		if _, policyErr := registry.ParsePolicy(args[0]); policyErr == nil {
			err = hint.Add(err, "the policy belongs to the flag: --pull="+args[0])
		}
	}
	return err
}
