package parser

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// What the variables of a Dockerfile may come to, in bytes. A few lines of which each
// holds the one before several times stand for any number of bytes.
const (
	// maxValue is for the value of one variable. Linux gives a process none of more
	// than 128 KiB.
	maxValue = 1 << 20
	// maxWord is for any other word with its variables expanded.
	maxWord = 16 << 20
	// maxExpanded is for all words with variables together, and for the environments
	// of all RUNs.
	maxExpanded = 256 << 20
	// maxWork is for the values that are put together while one word is expanded.
	// What becomes of them may be much less, as in ${A:+x}.
	maxWork = 32 << 20
	// maxVariables is how many variables a stage may have.
	maxVariables = 10_000
)

// variables are those of a stage, with the values that the frontend gives them.
type variables struct {
	values map[string]string
	// open: others may be defined, with values that are not known.
	open bool
	// size is the length of names and values together; longest is the length of the
	// longest value that was ever set.
	size, longest int
}

func (v *variables) set(name, value string) error {
	if len(value) > maxValue {
		return &boundError{fmt.Sprintf("the value of %s has %d bytes", name, len(value)), maxValue}
	}
	key := shell.NormalizeEnvKey(name)
	if old, ok := v.values[key]; ok {
		v.size -= len(name) + len(old)
	}
	v.values[key] = value
	v.size += len(name) + len(value)
	v.longest = max(v.longest, len(value))
	if len(v.values) > maxVariables {
		return &boundError{what: fmt.Sprintf("%s is one variable more than the limit of %d", name, maxVariables)}
	}
	return nil
}

// put sets a variable, or forgets one whose value is not known from here on.
func (v *variables) put(name string, to setting) error {
	if to.known {
		return v.set(name, to.value)
	}
	key := shell.NormalizeEnvKey(name)
	if old, ok := v.values[key]; ok {
		v.size -= len(name) + len(old)
		delete(v.values, key)
	}
	v.open = true
	return nil
}

// boundError is a limit that a Dockerfile exceeds.
type boundError struct {
	what  string
	limit int // in bytes; 0 when what names it
}

func (e *boundError) Error() string {
	if e.limit == 0 {
		return e.what
	}
	return fmt.Sprintf("%s; the limit is %d MiB", e.what, e.limit>>20)
}

// expansion is the work on one word. As the environment of the frontend's lexer it
// hands out values until they come to more than maxWork.
type expansion struct {
	vars *variables
	// replaced are the NAMEs that the word has in a ${NAME//PATTERN/REPLACEMENT}, and
	// replacement is an upper bound on the length of each REPLACEMENT. rough: what
	// was handed out may have to be added to it.
	replaced    map[string]bool
	replacement int
	rough       bool

	handed, grown int
	// unknown: the result depends on a variable whose value is not known.
	unknown bool
	// over is the variable that is too much.
	over string
}

// Keys implements shell.EnvGetter.
func (x *expansion) Keys() []string { return nil }

// Get implements shell.EnvGetter.
func (x *expansion) Get(name string) (string, bool) {
	value, ok := x.vars.values[shell.NormalizeEnvKey(name)]
	if !ok {
		x.unknown = x.unknown || x.vars.open
		return "", false
	}
	if x.replaced[name] {
		each := x.replacement
		if x.rough {
			each += x.handed
		}
		x.grown += (len(value) + 1) * each
	}
	if x.handed += len(value); x.over == "" && x.handed+x.grown > maxWork {
		x.over = name
	}
	if x.over != "" {
		return "", true
	}
	return value, true
}

// expand returns word as lex makes it. An error that is not a boundError is the lexer's:
// the frontend will come upon it too.
func (v *variables) expand(lex *shell.Lex, word string) (text string, known bool, err error) {
	if !strings.ContainsRune(word, '$') {
		if lex.SkipProcessQuotes {
			return word, true, nil
		}
		text, _, err = lex.ProcessWord(word, &expansion{vars: v})
		return text, true, err
	}
	text, x, err := v.process(lex, word)
	if x.over != "" {
		return "", false, &boundError{fmt.Sprintf("expanding a word with $%s takes too many bytes", x.over), maxWork}
	}
	return text, !x.unknown, err
}

// process runs the lexer on a word. The result counts unless the expansion is over.
func (v *variables) process(lex *shell.Lex, word string) (string, *expansion, error) {
	x := &expansion{vars: v, replaced: map[string]bool{}}
	for _, match := range replaceAll.FindAllStringSubmatch(word, -1) {
		x.replaced[match[1]] = true
	}
	x.measure(lex, word)
	if x.over != "" {
		return "", x, nil
	}
	text, _, err := lex.ProcessWord(word, x)
	return text, x, err
}

// replaceAll begins an expansion that can make a value longer.
var replaceAll = regexp.MustCompile(`\$\{([\pL\pN_@*#?$!-]+)//`)

// measure finds out how long the texts may be by which the word replaces something in
// a value: by expanding them, where they can be expanded alone.
func (x *expansion) measure(lex *shell.Lex, word string) {
	for x.over == "" {
		at := replaceAll.FindStringIndex(word)
		if at == nil {
			return
		}
		word = word[at[1]:]
		end := max(closingBrace(word, true), closingBrace(word, false))
		made, inner, err := x.vars.process(lex, word[:end])
		x.replacement = max(x.replacement, inner.replacement, end+len(made))
		x.rough = x.rough || inner.rough || err != nil
		x.over = inner.over
		word = word[end:]
	}
}

// closingBrace is where text ends that stands in ${}. With quotes, braces in them do
// not count.
func closingBrace(text string, quotes bool) int {
	depth, quote := 0, byte(0)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quote == 0 && (c == '\\' || c == '`'), quote == '"' && c == '\\':
			i++
		case quotes && quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
		case strings.HasPrefix(text[i:], "${"):
			depth++
		case c == '}' && depth == 0:
			return i
		case c == '}':
			depth--
		}
	}
	return len(text)
}
