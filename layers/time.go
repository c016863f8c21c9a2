package layers

import (
	"math"
	"time"
)

// UnixNano returns t as an Entry's ModTime, in nanoseconds since 1970. These reach
// from 1677 to 2262, fewer years than file systems have: a time outside becomes
// the nearest one inside.
func UnixNano(t time.Time) int64 {
	const most = math.MaxInt64 / int64(time.Second)
	switch s := t.Unix(); {
	case s >= most:
		return most * int64(time.Second)
	case s <= -most:
		return -most * int64(time.Second)
	}
	return t.UnixNano()
}

// MadeTime is the ModTime of files that a build makes and that have no time of
// their own, such as parent directories and heredoc files: 1980-01-02T00:00:00Z.
// It is a constant, so that the same input gives the same bytes. Zip archives, and
// with them wheels and jars, can store it in every time zone: they begin with 1980.
const MadeTime = 315_619_200 * int64(time.Second)

// Epoch says which times the entries of a layer have in an output.
type Epoch struct {
	// Seconds since 1970 is the time of what has MadeTime, and the latest of all
	// others.
	Seconds int64
	// Keep leaves others as they are, however late they are.
	Keep bool
}

// Apply returns a ModTime as the output has it, in whole seconds. Without an epoch
// (nil) all times stay.
func (e *Epoch) Apply(modTime int64) int64 {
	seconds := time.Unix(0, modTime).Unix()
	if e != nil && (seconds == MadeTime/int64(time.Second) || seconds > e.Seconds && !e.Keep) {
		seconds = e.Seconds
	}
	return UnixNano(time.Unix(seconds, 0))
}
