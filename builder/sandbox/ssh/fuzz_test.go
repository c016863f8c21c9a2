package ssh

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sinter-build/sinter/layers/hostfile"
)

// FuzzKeyFile: a key file is refused, or can be put into an agent.
func FuzzKeyFile(f *testing.F) {
	f.Add([]byte("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU=\n-----END OPENSSH PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN EC PRIVATE KEY-----\nMAAwAA==\n-----END EC PRIVATE KEY-----\n"))
	f.Add([]byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA me\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readKey(t.Context(), new(hostfile.Streams), path); err != nil {
			return
		}
		src, err := Source{ID: DefaultID, Keys: []string{path}}.ReadKeys(t.Context(), new(hostfile.Streams))
		if err != nil {
			return
		}
		if keys, err := src.ring.List(); err != nil || len(keys) != 1 {
			t.Errorf("%v, %v", keys, err)
		}
	})
}
