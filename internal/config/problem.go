package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Position is a place in a file. Line and Col count from 1, Col in characters; the zero Line means the whole file.
type Position struct {
	File      string
	Line, Col int
}

// String returns file:line:col, or the file alone for a problem of the whole file.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Problem is one mistake in a configuration.
type Problem struct {
	Position
	Path    string // of the key, as services[0].backends[1].port; empty for the file as a whole
	Message string // what is wrong, without a final stop
	Fix     string // what to do about it; empty where Message says it
	Warning bool   // the configuration works all the same
}

// String returns the problem in one line.
func (p Problem) String() string {
	s := p.head()
	if p.Fix != "" {
		s += "; " + p.Fix
	}
	return s
}

func (p Problem) head() string {
	s := p.Position.String() + ": "
	if p.Warning {
		s += "warning: "
	}
	if p.Path != "" {
		s += p.Path + ": "
	}
	return s + p.Message
}

// InvalidError is what Load returns for a file with mistakes.
type InvalidError struct {
	// Problems are the errors and the warnings, in the order of the file; at least one is an error.
	Problems []Problem
}

// Error returns the first error in one line, and how many more there are.
func (e *InvalidError) Error() string {
	errors, _ := Count(e.Problems)
	for _, p := range e.Problems {
		if p.Warning {
			continue
		}
		if errors > 1 {
			return fmt.Sprintf("%s (and %d more)", p, errors-1)
		}
		return p.String()
	}
	return "config: invalid"
}

// Count returns how many of the problems are errors and how many are warnings.
func Count(problems []Problem) (errors, warnings int) {
	for _, p := range problems {
		if p.Warning {
			warnings++
		}
	}
	return len(problems) - warnings, warnings
}

// Our own choices for the printed form.
const (
	contextLines = 3   // lines of the file before the one at fault
	excerptWidth = 110 // characters of a line
	formatLimit  = 100 // problems printed in full; a longer list is noise
)

// Format returns the problems as text for people: for each its place, path and message, the lines of src around it with
// a caret, and the fix. src is the text of the file, as given to Load. After 100 problems it says only how many follow.
func Format(problems []Problem, src []byte) string {
	lines := strings.Split(strings.TrimPrefix(string(src), byteOrderMark), "\n")
	var b strings.Builder
	for i, p := range problems {
		if i == formatLimit {
			fmt.Fprintf(&b, "... and %d more\n", len(problems)-i)
			break
		}
		b.WriteString(p.head() + "\n")
		excerpt(&b, lines, p.Position)
		if p.Fix != "" {
			b.WriteString("  " + p.Fix + "\n")
		}
	}
	return b.String()
}

// excerpt writes the line at pos, the lines before it and a caret below the column.
func excerpt(b *strings.Builder, lines []string, pos Position) {
	if pos.Line < 1 || pos.Line > len(lines) {
		return
	}
	// A long line is moved to the left so that the caret shows.
	skip := max(0, pos.Col-excerptWidth*3/4)
	digits := len(fmt.Sprint(pos.Line))
	for n := max(1, pos.Line-contextLines); n <= pos.Line; n++ {
		mark := ' '
		if n == pos.Line {
			mark = '>'
		}
		line := fmt.Sprintf("%c %*d | %s", mark, digits, n, window(lines[n-1], skip))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	b.WriteString(strings.Repeat(" ", digits+5+pos.Col-1-skip) + "^\n")
}

// window returns the printable characters of a line from skip on, each in one column: a file must not steer a terminal.
func window(line string, skip int) string {
	var b strings.Builder
	i := 0
	for _, r := range strings.TrimSuffix(line, "\r") {
		i++
		switch {
		case i <= skip:
			continue
		case i-skip > excerptWidth:
			return b.String() + "..."
		case r == '\t':
			b.WriteRune(' ')
		case !unicode.IsPrint(r):
			b.WriteRune(utf8.RuneError)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// sortProblems puts the problems into the order of the file and leaves one of each.
func sortProblems(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return slices.Compact(problems)
}
