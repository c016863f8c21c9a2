package progress

import (
	"io"
	"sync"
	"time"
)

// tellEvery is how often a moving transfer is told of.
const tellEvery = 100 * time.Millisecond

// Meter tells how many bytes of a transfer have moved.
type Meter struct {
	tell func(Update)

	mu    sync.Mutex
	state Update
	last  time.Time
}

// NewMeter returns the meter of a transfer that begins now. u says what it is.
func NewMeter(u Update, tell func(Update)) *Meter {
	u.Started = time.Now()
	return &Meter{tell: tell, state: u}
}

// Moved counts n more bytes.
func (m *Meter) Moved(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.Current += int64(n)
	if now := time.Now(); now.Sub(m.last) >= tellEvery {
		m.last = now
		m.tell(m.state)
	}
}

// Set is for a transfer that goes on at offset, or is already there.
func (m *Meter) Set(offset int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.Current = offset
}

// Done tells that the transfer has ended.
func (m *Meter) Done() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.Done = time.Now()
	m.tell(m.state)
}

// Reader counts what is read from r.
func (m *Meter) Reader(r io.Reader) io.Reader { return &metered{r, m} }

type metered struct {
	io.Reader
	meter *Meter
}

func (r *metered) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.meter.Moved(n)
	return n, err
}
