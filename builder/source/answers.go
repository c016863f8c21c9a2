package source

import "sync"

// Answers remembers one answer for each question: what a build has found out it does
// not ask again. The zero value has none.
type Answers[T any] struct {
	mu    sync.Mutex
	slots map[string]*Answer[T]
}

// Answer is what was found. Whoever looks for it or at it holds the lock.
type Answer[T any] struct {
	sync.Mutex
	Found bool
	Value T
}

// At returns the place of a question's answer.
func (a *Answers[T]) At(question string) *Answer[T] {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, ok := a.slots[question]
	if !ok {
		if a.slots == nil {
			a.slots = map[string]*Answer[T]{}
		}
		s = &Answer[T]{}
		a.slots[question] = s
	}
	return s
}

// Get returns the answer to a question, finding it if need be. A failure is not kept.
func (a *Answers[T]) Get(question string, find func() (T, error)) (T, error) {
	s := a.At(question)
	s.Lock()
	defer s.Unlock()
	if s.Found {
		return s.Value, nil
	}
	v, err := find()
	if err == nil {
		s.Value, s.Found = v, true
	}
	return v, err
}

// Forget returns all answers, which count no longer. Nobody may be looking for any.
func (a *Answers[T]) Forget() []T {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []T
	for _, s := range a.slots {
		if s.Found {
			all = append(all, s.Value)
		}
	}
	clear(a.slots)
	return all
}
