package main

import (
	"os"
	"os/user"
	"testing"
)

// Without HOME the home directory is what the machine's list of users says.
func TestSetHome(t *testing.T) {
	who, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	for given, want := range map[string]string{"": who.HomeDir, "/given": "/given"} {
		t.Setenv("HOME", given)
		if err := setHome(); err != nil || os.Getenv("HOME") != want {
			t.Errorf("%q: HOME is %q, %v, want %q", given, os.Getenv("HOME"), err, want)
		}
	}
}
