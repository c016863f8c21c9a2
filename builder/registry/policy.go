package registry

import (
	"errors"
	"math"
	"time"
)

// Policy says when a registry is asked what a tag stands for that the store knows
// already. The zero value is the policy "newer".
type Policy struct {
	// Age is how long the registry's last answer counts.
	Age time.Duration
	// Must makes it an error that the registry does not answer.
	Must bool
	// Never says that registries are not asked about tags and digests at all.
	Never bool
}

// DefaultPolicy believes a tag for a day.
var DefaultPolicy = Policy{Age: 24 * time.Hour}

// policyWanted says what ParsePolicy reads.
const policyWanted = "want always, missing, newer, never, or how long a tag is believed, such as 12h"

// ParsePolicy reads a pull policy: always, missing, newer or never, as podman has
// them, or how long a tag is believed (12h). For docker's sake true is always, and
// false the default.
func ParsePolicy(text string) (Policy, error) {
	switch text {
	case "always", "true":
		return Policy{Must: true}, nil
	case "missing", "ifnotpresent":
		return Policy{Age: math.MaxInt64}, nil
	case "newer", "ifnewer":
		return Policy{}, nil
	case "never":
		return Policy{Age: math.MaxInt64, Never: true}, nil
	case "false":
		return DefaultPolicy, nil
	}
	age, err := time.ParseDuration(text)
	if err != nil || age < 0 {
		return Policy{}, errors.New(policyWanted)
	}
	return Policy{Age: age}, nil
}

// Asks reports whether a registry is asked about a tag of which it told at the
// given time. A time to come, which is one before the clock was set back, says
// nothing.
func (p Policy) Asks(told, now time.Time) bool {
	age := now.Sub(told)
	return p.Must || p.Age < math.MaxInt64 && (age < 0 || age >= p.Age)
}
