package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// No line of a help text has more than 90 columns.
func TestHelpIsNarrow(t *testing.T) {
	var check func(*cobra.Command)
	check = func(c *cobra.Command) {
		for line := range strings.Lines(c.Long + "\n" + c.UsageString()) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > 90 {
				t.Errorf("%s: %d columns: %s", c.CommandPath(), n, line)
			}
		}
		for _, sub := range c.Commands() {
			check(sub)
		}
	}
	check(newRootCmd(&app{}))
}

// Every flag of build that the help shows stands in one of its groups.
func TestBuildFlagsHaveGroups(t *testing.T) {
	newBuildCmd(&app{}).Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Annotations[groupAnnotation] == nil {
			t.Errorf("--%s has no group", f.Name)
		}
	})
}

// The help of the root command has all exit codes.
func TestExitCodesAreInTheHelp(t *testing.T) {
	help := strings.Split(newRootCmd(&app{}).Long, "\n")
	for _, code := range []int{exitOK, exitFailed, exitUsage, exitPush, exitPlan, exitInterrupted} {
		if !slices.ContainsFunc(help, func(line string) bool { return strings.HasPrefix(line, fmt.Sprintf("  %-4d ", code)) }) {
			t.Errorf("the help does not have code %d", code)
		}
	}
}
