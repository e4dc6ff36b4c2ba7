package layering

import (
	"bytes"
	"go/ast"
	"go/format"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Limits of form. Tables of tests may be long. Lines aim at 120 columns; a word that hangs over is not worth a new one.
const (
	maxColumns     = 125
	maxTestColumns = 160 // rows of test tables
	maxFileLines   = 500
	maxFuncLines   = 60
	maxTestLines   = 100
)

// topLevel is all that the top of the repository may hold, besides what begins with a dot and what is built.
var topLevel = strings.Fields(
	"cmd forwarder nat dsr sched lab internal docs go.mod go.sum Makefile README.md LICENSE CHANGELOG.md")

// notes are words that belong into nobody's checked-in file: notes to oneself, and paths of one machine. They are put
// together here, since this file is checked too.
var notes = []string{"TO" + "DO", "FIX" + "ME", "XX" + "X:", "/wo" + "rk/", "/ho" + "me/"}

func TestTheTopHoldsNothingElse(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, e := range entries {
		found[e.Name()] = true
		if strings.HasPrefix(e.Name(), ".") || e.Name() == "bin" || e.Name() == module && !e.IsDir() {
			continue
		}
		if !slices.Contains(topLevel, e.Name()) {
			t.Errorf("%s does not belong at the top", e.Name())
		}
	}
	for _, name := range topLevel {
		if !found[name] {
			t.Errorf("%s is missing at the top", name)
		}
	}
}

func TestGoFilesAreFormatted(t *testing.T) {
	for _, f := range load(t).files {
		want, err := format.Source(f.text)
		if err != nil {
			t.Errorf("%s: %v", f.path, err)
		} else if !bytes.Equal(want, f.text) {
			t.Errorf("%s: run gofmt -w on it", f.path)
		}
	}
}

func TestFilesAndFunctionsAreShort(t *testing.T) {
	s := load(t)
	for _, f := range s.files {
		if n := bytes.Count(f.text, []byte("\n")); n > maxFileLines && !f.test() {
			t.Errorf("%s has %d lines; at most %d: one idea a file", f.path, n, maxFileLines)
		}
		most := maxFuncLines
		if f.test() {
			most = maxTestLines
		}
		for _, d := range f.tree.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			n := s.fset.Position(fn.End()).Line - s.fset.Position(fn.Pos()).Line + 1
			if n > most && !isTable(fn) {
				t.Errorf("%s: %s has %d lines; at most %d", s.position(fn), fn.Name.Name, n, most)
			}
		}
	}
}

// isTable reports whether most of a test is one literal.
func isTable(fn *ast.FuncDecl) bool {
	if !strings.HasPrefix(fn.Name.Name, "Test") && !strings.HasPrefix(fn.Name.Name, "Fuzz") {
		return false
	}
	size := fn.End() - fn.Pos()
	big := false
	ast.Inspect(fn, func(n ast.Node) bool {
		if lit, ok := n.(*ast.CompositeLit); ok && 2*(lit.End()-lit.Pos()) > size {
			big = true
		}
		return !big
	})
	return big
}

// longText is a string of a program that alone takes half a line, or an address of the web.
var longText = regexp.MustCompile(`"[^"]{60,}"|https?://`)

func TestLinesFitTheScreen(t *testing.T) {
	walk(t, func(path string, text []byte) {
		if filepath.Ext(path) != ".go" && filepath.Ext(path) != ".md" {
			return
		}
		code := false
		for i, line := range strings.Split(string(text), "\n") {
			if strings.HasPrefix(line, "```") {
				code = !code
			}
			// Rows of a table, output that is shown, and long texts cannot be broken.
			whole := filepath.Ext(path) == ".md" && (strings.HasPrefix(line, "|") || code) || longText.MatchString(line)
			limit := maxColumns
			if strings.HasSuffix(path, "_test.go") {
				limit = maxTestColumns
			}
			if n := utf8.RuneCountInString(line); n > limit && !whole {
				t.Errorf("%s:%d has %d columns; at most %d", path, i+1, n, limit)
			}
		}
	})
}

func TestNoNotesAreCheckedIn(t *testing.T) {
	walk(t, func(path string, text []byte) {
		for i, line := range strings.Split(string(text), "\n") {
			for _, note := range notes {
				if strings.Contains(line, note) {
					t.Errorf("%s:%d says %q", path, i+1, note)
				}
			}
		}
	})
}
