package main

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/layers/hostfile"
)

// FuzzFlags: whatever the values of a build's flags, there is a request that
// makes sense, or a mistake of the command line.
func FuzzFlags(f *testing.F) {
	for _, s := range []string{
		"id=a,src=/dev/null", `"id=a","src=b,c"`, "id=a,env=HOME,type=env", "linux/amd64,linux/arm/v7", "local", "h:1.2.3.4", "h=[::1]",
		"64m", "-1", "9999999999999999999g", "nofile=1:2", "nofile=-2:-3", "cpu=99999999999999999999", "A=b", "=", "a/b:c@sha256:d", "default=",
		"type=provenance,mode=min,filename=a", "generator=a,B=c", `type=sbom,"format=spdx"`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, name := range []string{"platform", "add-host", "shm-size", "ulimit", "label", "build-arg", "network"} {
			var b buildFlags
			c := &cobra.Command{Use: "build"}
			b.register(c)
			if c.Flags().Set(name, value) != nil {
				continue
			}
			r, err := b.request(t.Context(), new(hostfile.Streams))
			var mistake *usageError
			if err != nil {
				if !errors.As(err, &mistake) {
					t.Errorf("--%s=%q: an error of another kind: %v", name, value, err)
				}
				continue
			}
			if r.ShmSize < 0 {
				t.Errorf("--shm-size=%q is %d", value, r.ShmSize)
			}
			for _, l := range r.Ulimits {
				if l.Soft < -1 || l.Hard < -1 || l.Name == "" {
					t.Errorf("--ulimit=%q is %+v", value, l)
				}
			}
			for _, h := range r.AddHosts {
				if h.Name == "" || net.ParseIP(h.IP) == nil {
					t.Errorf("--add-host=%q is %+v", value, h)
				}
			}
		}
		for _, asked := range []attestFlags{{attest: []string{value}}, {provenance: value}, {sbom: value}} {
			a, err := (&buildFlags{attests: asked}).attestations(nil)
			var mistake *usageError
			if err != nil && !errors.As(err, &mistake) {
				t.Errorf("%+v: an error of another kind: %v", asked, err)
			}
			if err == nil && a.provenance != nil && (a.provenance.File == "" || strings.Contains(a.provenance.File, "/")) {
				t.Errorf("%+v: the provenance is called %q", asked, a.provenance.File)
			}
		}
		if all, err := parseSecrets([]string{value}); err == nil {
			for id := range all {
				if id == "" {
					t.Errorf("--secret=%q has no ID", value)
				}
			}
		}
		_, _ = cutLayout(value)
		if names, err := tagNames([]string{value}); err == nil && len(names) != 1 {
			t.Errorf("--tag=%q is %q", value, names)
		}
	})
}
