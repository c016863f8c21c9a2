package registry

import (
	"bytes"
	"io"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/progress"
)

// reportEvery is how often a moving blob is told of.
const reportEvery = 200 * time.Millisecond

// meter tells how far a transfer is.
type meter struct {
	report func(progress.Update)

	mu    sync.Mutex
	state progress.Update
	last  time.Time
}

func newMeter(desc ocispec.Descriptor, report func(progress.Update)) *meter {
	return &meter{report: report, state: progress.Update{
		ID: "pushing " + desc.Digest.String(), Total: desc.Size, Started: time.Now(),
	}}
}

func (m *meter) moved(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.Current += int64(n)
	if now := time.Now(); now.Sub(m.last) >= reportEvery {
		m.last = now
		m.report(m.state)
	}
}

// restart is for a transfer that begins at offset, again or elsewhere.
func (m *meter) restart(offset int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.Current = offset
}

func (m *meter) done() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.Current, m.state.Done = m.state.Total, time.Now()
	m.report(m.state)
}

// bodyOf makes bodies of requests that can be sent more than once.
func bodyOf(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}
