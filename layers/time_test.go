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

func TestEpoch(t *testing.T) {
	const second = int64(time.Second)
	early, late := &Epoch{Seconds: 1000}, &Epoch{Seconds: 1_700_000_000}
	for _, tt := range []struct {
		epoch         *Epoch
		modTime, want int64
	}{
		{nil, 5*second + 1, 5 * second},
		{nil, -1, -second},
		{nil, MadeTime, MadeTime},
		{early, 5 * second, 5 * second},
		{early, 2000*second + 1, 1000 * second},
		{early, MadeTime, 1000 * second},
		{late, 2000 * second, 2000 * second},
		{late, MadeTime, 1_700_000_000 * second},
		{late, MadeTime + 5, 1_700_000_000 * second},
		{late, MadeTime - 1, MadeTime - second},
		{late, math.MaxInt64, 1_700_000_000 * second},
		{&Epoch{Seconds: math.MaxInt64}, MadeTime, UnixNano(time.Unix(math.MaxInt64, 0))},
		{&Epoch{Seconds: 1000, Keep: true}, 2000 * second, 2000 * second},
		{&Epoch{Seconds: 1000, Keep: true}, MadeTime, 1000 * second},
	} {
		if got := tt.epoch.Apply(tt.modTime); got != tt.want {
			t.Errorf("%d with %+v: %d, want %d", tt.modTime, tt.epoch, got, tt.want)
		}
	}
}

// Zip archives tell local time, from 1980 on.
func TestMadeTimeIsInZip(t *testing.T) {
	for _, hours := range []int{-12, 14} {
		zone := time.FixedZone("", hours*60*60)
		if at := time.Unix(0, MadeTime).In(zone); at.Year() < 1980 {
			t.Errorf("in the zone %d it is %s", hours, at)
		}
	}
}
