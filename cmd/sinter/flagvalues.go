package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/image"
)

// complete tells shells which values a flag can have.
func complete(c *cobra.Command, flag string, values ...string) {
	// Only an unknown flag is an error.
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// imageNames are the names of the images in the store.
func (a *app) imageNames(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	a.reads = true
	images, err := a.images()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	list, err := images.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, img := range list {
		if img.Ref != "" {
			names = append(names, image.Familiar(img.Ref))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// hide leaves flags out of the help.
func hide(s *pflag.FlagSet, names ...string) {
	for _, name := range names {
		// Only an unknown flag is an error.
		_ = s.MarkHidden(name)
	}
}

func hostPlatform() ocispec.Platform { return platforms.Normalize(platforms.DefaultSpec()) }

const platformWanted = "want OS/ARCHITECTURE[/VARIANT], such as linux/amd64 or linux/arm/v7"

// platformFlag is --platform of a command that takes one; nil when it was not given.
type platformFlag struct{ *ocispec.Platform }

func (p *platformFlag) String() string {
	if p.Platform == nil {
		return ""
	}
	return platforms.Format(*p.Platform)
}

// Type is the flag's placeholder.
func (p *platformFlag) Type() string { return "PLATFORM" }

// Set implements pflag.Value.
func (p *platformFlag) Set(text string) error {
	p.Platform = nil
	if text == "" { // as $P in --platform "$P" may be
		return nil
	}
	parsed, err := parsePlatform(text)
	p.Platform = &parsed
	return err
}

func parsePlatform(text string) (ocispec.Platform, error) {
	p, err := platforms.Parse(text)
	if err != nil {
		return p, errors.New(platformWanted)
	}
	return platforms.Normalize(p), nil
}

// platformsFlag is --platform of a command that takes several, with commas between them.
type platformsFlag []ocispec.Platform

func (p *platformsFlag) String() string { return "" }

// Type is the flag's placeholder.
func (p *platformsFlag) Type() string { return "PLATFORMS" }

// Set implements pflag.Value.
func (p *platformsFlag) Set(text string) error {
	if text == "" {
		return nil
	}
	for one := range strings.SplitSeq(text, ",") {
		platform, err := parsePlatform(one)
		if err != nil {
			return err
		}
		*p = append(*p, platform)
	}
	return nil
}

// whenTrue is the value of a boolean flag that stands for another flag.
func whenTrue(do func() error) func(text string) error {
	return func(text string) error {
		on, err := strconv.ParseBool(text)
		if err != nil || !on {
			return err
		}
		return do()
	}
}

// pullFlag is the flag --pull of build: docker's without a value, or podman's with a
// policy.
type pullFlag struct {
	text   string
	policy *registry.Policy
}

func (p *pullFlag) String() string { return p.text }

// Type is the flag's placeholder.
func (p *pullFlag) Type() string { return "POLICY" }

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

// checkArgs wants one argument. A policy that stands apart from --pull is another.
func (f *buildFlags) checkArgs(c *cobra.Command, args []string) error {
	err := exactArgs(1)(c, args)
	if err != nil && f.pull.policy != nil && len(args) == 2 {
		if _, policyErr := registry.ParsePolicy(args[0]); policyErr == nil {
			err = hint.Add(err, fmt.Sprintf("the policy belongs to the flag: --pull=%s", args[0]))
		}
	}
	return err
}
