package registry

import (
	"math"
	"testing"
	"time"
)

func TestPolicyAsks(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		policy string
		age    time.Duration
		want   bool
	}{
		{"false", 23 * time.Hour, false},
		{"false", 24 * time.Hour, true},
		// The clock was set back.
		{"false", -time.Second, true},
		{"2h", time.Hour, false},
		{"2h", 3 * time.Hour, true},
		{"missing", math.MaxInt64, false},
		{"missing", -time.Hour, false},
		{"ifnotpresent", 24 * time.Hour, false},
		{"never", 24 * time.Hour, false},
		{"newer", 0, true},
		{"0s", 0, true},
		{"always", 0, true},
		{"true", 0, true},
	} {
		p, err := ParsePolicy(c.policy)
		if err != nil || p.Asks(now.Add(-c.age), now) != c.want {
			t.Errorf("%s, told %s ago: not %v; %v", c.policy, c.age, c.want, err)
		}
	}
	for _, text := range []string{"", "sometimes", "-1h", "12", "1h always"} {
		if p, err := ParsePolicy(text); err == nil {
			t.Errorf("%q is the policy %+v", text, p)
		}
	}
}
