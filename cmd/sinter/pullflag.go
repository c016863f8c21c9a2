package main

import "github.com/sinter-build/sinter/builder/registry"

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

// must reports whether every base image is asked for.
func (p *pullFlag) must() bool { return p.policy != nil && p.policy.Must }
