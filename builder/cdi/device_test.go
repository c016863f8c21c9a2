package cdi

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const spec = `cdiVersion: "0.6.0"
kind: vendor.test/thing
annotations: {org.mobyproject.buildkit.device.autoallow: "true"}
containerEdits: {env: [ALL=1]}
devices:
- name: a
  containerEdits:
    env: [A=1]
    deviceNodes: [{path: /dev/a, hostPath: /dev/zero}, {path: /dev/null}]
- name: b
  annotations: {org.mobyproject.buildkit.device.class: class1, org.mobyproject.buildkit.device.autoallow: "false"}
  containerEdits:
    mounts: [{hostPath: /etc/hostname, containerPath: /opt/name, options: [ro, bind]}]
`

func given(t *testing.T, files ...string) Specs {
	t.Helper()
	dir := t.TempDir()
	for i, content := range files {
		if err := os.WriteFile(filepath.Join(dir, string(rune('a'+i))+".yaml"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Specs{Dirs: []string{filepath.Join(dir, "missing"), dir}}
}

func TestEdits(t *testing.T) {
	s := given(t, spec)
	a := Edits{Env: []string{"ALL=1", "A=1"}, Nodes: []Bind{{Host: "/dev/zero", Path: "/dev/a"}, {Host: "/dev/null", Path: "/dev/null"}}}
	b := Edits{Env: []string{"ALL=1"}, Mounts: []Bind{{Host: "/etc/hostname", Path: "/opt/name", ReadOnly: true}}}
	both := Edits{Env: a.Env, Nodes: a.Nodes, Mounts: b.Mounts}
	for _, c := range []struct {
		names, missing string
		want           Edits
		allowed        bool
	}{
		{"vendor.test/thing=a", "", a, true},
		{"vendor.test/thing", "", a, true},
		{"vendor.test/thing=b", "", b, false},
		{"class1", "", b, false},
		{"vendor.test/thing=*", "", both, false},
		{"vendor.test/thing=a class1 vendor.test/thing=a", "", both, false},
		{"vendor.test/thing=c vendor.test/other nothing", "vendor.test/thing=c vendor.test/other nothing", Edits{}, true},
	} {
		got, missing, err := s.Edits(strings.Fields(c.names))
		if err != nil || !reflect.DeepEqual(got, c.want) || strings.Join(missing, " ") != c.missing {
			t.Errorf("%s: %+v, missing %q, %v", c.names, got, missing, err)
		}
		all := true
		for _, name := range strings.Fields(c.names) {
			ok, err := s.Allowed(name)
			if err != nil {
				t.Error(err)
			}
			all = all && ok
		}
		if all != c.allowed {
			t.Errorf("%s: allowed %v", c.names, all)
		}
	}
}

// What cannot be given is refused, not left out.
func TestRefused(t *testing.T) {
	for edits, want := range map[string]string{
		`hooks: [{hookName: createContainer, path: /usr/bin/hook}]`: "wants to run /usr/bin/hook",
		`additionalGids: [5]`:                                     "further groups",
		`intelRdt: {closID: x}`:                                   "Intel RDT",
		`deviceNodes: [{path: /dev/null, uid: 5}]`:                "another owner",
		`mounts: [{hostPath: x, containerPath: /x, type: tmpfs}]`: "type tmpfs",
	} {
		s := given(t, "cdiVersion: \"0.7.0\"\nkind: vendor.test/thing\ndevices:\n- name: a\n  containerEdits: {"+edits+"}\n")
		if _, missing, err := s.Edits([]string{"vendor.test/thing"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: missing %q, %v", edits, missing, err)
		}
	}
}
