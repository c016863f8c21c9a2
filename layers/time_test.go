package layers

import (
	"math"
	"testing"
	"time"
)

func TestUnixNano(t *testing.T) {
	const most = math.MaxInt64 / int64(time.Second) * int64(time.Second)
	for _, tt := range []struct {
		at   time.Time
		want int64
	}{
		{time.Unix(0, 0), 0},
		{time.Unix(-1, 5), -1_000_000_000 + 5},
		{time.Unix(1_700_000_000, 1), 1_700_000_000_000_000_001},
		{time.Date(2262, 4, 11, 23, 47, 15, 999, time.UTC), most - 1_000_000_000 + 999},
		{time.Date(2262, 4, 11, 23, 47, 16, 999, time.UTC), most},
		{time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC), most},
		{time.Unix(math.MaxInt64, 0), most},
		{time.Date(1677, 9, 21, 0, 12, 43, 0, time.UTC), -most},
		{time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC), -most},
		{time.Unix(math.MinInt64, 0), -most},
	} {
		if got := UnixNano(tt.at); got != tt.want {
			t.Errorf("%d seconds: %d, want %d", tt.at.Unix(), got, tt.want)
		}
	}
}
