package main

import (
	"slices"
	"testing"
)

// A flag that the build command has must not be listed as one that it lacks,
// and none may be listed twice.
func TestOtherFlagsAreUnknown(t *testing.T) {
	root := newRootCmd(&app{})
	build, _, err := root.Find([]string{"build"})
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, l := range slices.Concat(transferFlags(), buildahFlags(), kanikoFlags()) {
		for _, name := range l.names {
			if build.Flag(name) != nil {
				t.Errorf("--%s is a flag of sinter build", name)
			}
			if slices.Contains(seen, name) {
				t.Errorf("--%s is listed twice", name)
			}
			seen = append(seen, name)
		}
	}
}
