package parser

import (
	"maps"
	"slices"
	"sync"
)

// memo answers each question once. Those who ask while the answer is being
// found wait for it.
type memo[T any] struct {
	mu      sync.Mutex
	answers map[string]func() (T, error)
}

// answered returns the answer to a question that was asked; ok is false when it
// was not, or when there is none.
func (m *memo[T]) answered(question string) (v T, ok bool) {
	m.mu.Lock()
	answer, asked := m.answers[question]
	m.mu.Unlock()
	if !asked {
		return v, false
	}
	v, err := answer()
	return v, err == nil
}

// questions are those that were asked.
func (m *memo[T]) questions() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.answers))
}

func (m *memo[T]) get(question string, find func() (T, error)) (T, error) {
	m.mu.Lock()
	answer, ok := m.answers[question]
	if !ok {
		if m.answers == nil {
			m.answers = map[string]func() (T, error){}
		}
		answer = sync.OnceValues(find)
		m.answers[question] = answer
	}
	m.mu.Unlock()
	return answer()
}
