package builder

// HintError is an error with the way out of it.
type HintError struct {
	Err  error
	Hint string
}

// Hinted adds a way out to an error.
func Hinted(err error, hint string) error { return &HintError{Err: err, Hint: hint} }

func (e *HintError) Error() string { return e.Err.Error() }

// Unwrap returns the error itself.
func (e *HintError) Unwrap() error { return e.Err }

// HintText returns the way out.
func (e *HintError) HintText() string { return e.Hint }
