package parser

// Warning is a finding about the Dockerfile that does not stop the build.
type Warning struct {
	// Short is one line; Detail explains further.
	Short  string
	Detail []string
	// URL leads to the rule's description.
	URL string
	// Source is the text that Ranges refer to; nil when the finding has no
	// place.
	Source *SourceFile
	Ranges []Range
	// Level is the vertex warning's level of BuildKit: 1 is shown.
	Level int
}

// Error is a mistake in the Dockerfile or in what was asked of it.
type Error struct {
	// Msg is the reference frontend's own text; Hint is the way out.
	Msg, Hint string
	Source    *SourceFile
	Ranges    []Range
	Err       error
}

func (e *Error) Error() string { return e.Msg }

// Unwrap returns the frontend's error.
func (e *Error) Unwrap() error { return e.Err }
