package layers

import (
	"math"
	"time"
)

// UnixNano returns t as an Entry's ModTime: in nanoseconds since 1970, or the
// nearest that can be said so. These reach from 1677 to 2262; file systems know
// more.
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
