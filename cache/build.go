package cache

import (
	"regexp"
	"time"
)

// Build is what one build did and why. It is for people: nothing is decided by it.
type Build struct {
	ID string `json:"id"`
	// Of says what was built: builds of the same are compared.
	Of Subject `json:"of"`
	// Tags are the names that were given; Image is the digest of what came out of it.
	Tags    []string      `json:"tags,omitempty"`
	Image   string        `json:"image,omitempty"`
	Started time.Time     `json:"started"`
	Took    time.Duration `json:"took"` // nanoseconds
	Result  BuildResult   `json:"result"`
	Error   string        `json:"error,omitempty"`
	Steps   []BuildStep   `json:"steps"`
}

// Subject says what a build is of.
type Subject struct {
	Context    string   `json:"context"`
	Dockerfile string   `json:"dockerfile"`
	Target     string   `json:"target,omitempty"`
	Platforms  []string `json:"platforms,omitempty"`
}

// BuildResult is how a build ended.
type BuildResult string

// The ends of a build.
const (
	Succeeded BuildResult = "succeeded"
	Failed    BuildResult = "failed"
	Canceled  BuildResult = "canceled"
)

// BuildStep is what a build did about one step.
type BuildStep struct {
	// Name is the step as people see it, such as "[build 3/7] RUN make".
	Name string `json:"name"`
	// Text is the instruction as the Dockerfile has it, before variables are
	// expanded; "" where that is not known.
	Text    string   `json:"text,omitempty"`
	Verdict Verdict  `json:"verdict"`
	Why     []Reason `json:"why,omitempty"`
	Key     Key      `json:"key"`
	// Parts are those of the key; values that look like secrets are hidden.
	Parts []Part        `json:"parts,omitempty"`
	Took  time.Duration `json:"took,omitempty"` // nanoseconds
	// Memory is the most that the command had at once, in bytes.
	Memory int64 `json:"memory,omitempty"`
	// Layer is the name of the step's own layer, and Size that of its blob in bytes if
	// there is one.
	Layer string `json:"layer,omitempty"`
	Size  int64  `json:"size,omitempty"`
	// Logged says that the build keeps what the command printed.
	Logged bool `json:"logged,omitempty"`
}

// Verdict is what became of a step.
type Verdict string

// The verdicts on a step.
const (
	// WasCached steps had a result already, or one above them had.
	WasCached Verdict = "cached"
	// Ran is for steps that ran and succeeded.
	Ran Verdict = "ran"
	// RanAndFailed is for the step that ended the build.
	RanAndFailed Verdict = "failed"
	// WasCanceled is for steps that were running when the build ended.
	WasCanceled Verdict = "canceled"
	// NotReached steps had not begun when the build ended.
	NotReached Verdict = "not reached"
)

// finished reports whether the step has a result.
func (v Verdict) finished() bool { return v == WasCached || v == Ran }

// numbered is the beginning of a step's name: its stage, and its number in it.
var numbered = regexp.MustCompile(`^\[(?:(.*) )?(\d+)/\d+\] `)

// SplitName splits a step's name into its stage and its instruction; neither changes
// when a step is added before it.
func SplitName(name string) (stage, text string) {
	m := numbered.FindStringSubmatch(name)
	if m == nil {
		return "", name
	}
	return m[1], name[len(m[0]):]
}

// instruction is the step's stage, and its instruction as it is written.
func (s BuildStep) instruction() (stage, text string) {
	stage, text = SplitName(s.Name)
	if s.Text != "" {
		text = s.Text
	}
	return stage, text
}

// Says returns the step's instruction with its variables expanded.
func (s BuildStep) Says() string {
	_, text := SplitName(s.Name)
	return text
}

// ShortName is what reasons call a step: "[build 3/7]", or all of a name that has no
// number.
func ShortName(name string) string {
	if m := numbered.FindString(name); m != "" {
		return m[:len(m)-1]
	}
	return name
}

// Matching returns, for each of a build's steps, the index of the one that it was in the
// build before; -1 for new ones. Steps that say the same are the same step, in the order
// of their stage; a step between two of these that is the only one there, or the first,
// is one whose instruction was changed.
func Matching(now, before []BuildStep) []int {
	found := make([]int, len(now))
	for i := range found {
		found[i] = -1
	}
	stages, was := byStage(now), byStage(before)
	taken := make([]bool, len(before))
	for stage, is := range stages {
		matchStage(now, before, is, was[stage], found, taken)
	}
	// What has gone to another stage, or whose stage has another name.
	for i, s := range now {
		if found[i] >= 0 {
			continue
		}
		_, text := s.instruction()
		for j, b := range before {
			if _, old := b.instruction(); !taken[j] && old == text {
				found[i], taken[j] = j, true
				break
			}
		}
	}
	return found
}

func byStage(steps []BuildStep) map[string][]int {
	m := map[string][]int{}
	for i, s := range steps {
		stage, _ := s.instruction()
		m[stage] = append(m[stage], i)
	}
	return m
}

// matchStage matches the steps of one stage, given by their indexes.
func matchStage(now, before []BuildStep, is, was []int, found []int, taken []bool) {
	same := func(i, j int) bool {
		_, a := now[is[i]].instruction()
		_, b := before[was[j]].instruction()
		return a == b
	}
	match := func(i, j int) { found[is[i]], taken[was[j]] = was[j], true }
	for _, pair := range longestCommon(len(is), len(was), same) {
		match(pair[0], pair[1])
	}
	// What was moved within the stage.
	for i := range is {
		for j := range was {
			if found[is[i]] < 0 && !taken[was[j]] && same(i, j) {
				match(i, j)
			}
		}
	}
	// What was changed in its place.
	j := 0
	for i := range is {
		if k := found[is[i]]; k >= 0 {
			for j < len(was) && was[j] <= k {
				j++
			}
			continue
		}
		if j < len(was) && !taken[was[j]] {
			match(i, j)
			j++
		}
	}
}

// longestCommon returns the pairs of a longest common subsequence of two lists of n and
// m elements.
func longestCommon(n, m int, same func(i, j int) bool) (pairs [][2]int) {
	length := make([][]int, n+1)
	for i := range length {
		length[i] = make([]int, m+1)
	}
	for i := n - 1; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			if same(i, j) {
				length[i][j] = length[i+1][j+1] + 1
			} else {
				length[i][j] = max(length[i+1][j], length[i][j+1])
			}
		}
	}
	for i, j := 0, 0; i < n && j < m; {
		switch {
		case same(i, j):
			pairs = append(pairs, [2]int{i, j})
			i, j = i+1, j+1
		case length[i+1][j] >= length[i][j+1]:
			i++
		default:
			j++
		}
	}
	return pairs
}
