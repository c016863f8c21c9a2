package parser

import "sync"

// memo answers each question once. Those who ask while the answer is being
// found wait for it.
type memo[T any] struct {
	mu      sync.Mutex
	answers map[string]func() (T, error)
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
