package export

// hintError is an error with the way out of it.
type hintError struct {
	err  error
	hint string
}

func hinted(err error, hint string) error { return &hintError{err: err, hint: hint} }

func (e *hintError) Error() string { return e.err.Error() }

// Unwrap returns the error itself.
func (e *hintError) Unwrap() error { return e.err }

// HintText returns the way out.
func (e *hintError) HintText() string { return e.hint }
