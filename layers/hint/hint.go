// Package hint holds the one error type that carries a hint: a sentence that tells
// a person what to do about the error. A hint is not part of the error's text;
// whoever prints the error prints its hint below it.
//
// An error type with fields that callers examine has a HintText method instead, and
// a FirstHint method if its hint may come before those of its causes.
package hint

// Error is an error with a hint.
type Error struct {
	Err  error
	Hint string
	// First says that the hint comes before those of the error's causes. Else the
	// cause knows better.
	First bool
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error that the hint belongs to.
func (e *Error) Unwrap() error { return e.Err }

// HintText returns the hint.
func (e *Error) HintText() string { return e.Hint }

// FirstHint returns the hint if it comes before those of the error's causes, else "".
func (e *Error) FirstHint() string {
	if e.First {
		return e.Hint
	}
	return ""
}

// Add returns err with a hint.
func Add(err error, hint string) error { return &Error{Err: err, Hint: hint} }

// Of returns the hint to print with err: that of the innermost error in its tree that
// has one, unless an outer one comes First; "" when there is none.
func Of(err error) string {
	var found string
	for err != nil {
		if h, ok := err.(interface{ FirstHint() string }); ok && h.FirstHint() != "" {
			return h.FirstHint()
		}
		if h, ok := err.(interface{ HintText() string }); ok && h.HintText() != "" {
			found = h.HintText()
		}
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			err = u.Unwrap()
		case interface{ Unwrap() []error }:
			for _, e := range u.Unwrap() {
				if h := Of(e); h != "" {
					return h
				}
			}
			return found
		default:
			return found
		}
	}
	return found
}
