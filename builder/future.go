package builder

import "sync"

// future is a value that is computed once, by whoever asks first; the others
// wait. A failure is remembered like a success.
type future[T any] struct {
	once sync.Once
	val  T
	err  error
}

func (f *future[T]) get(compute func() (T, error)) (T, error) {
	f.once.Do(func() { f.val, f.err = compute() })
	return f.val, f.err
}
