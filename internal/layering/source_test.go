package layering

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "naru" // the module's name in go.mod
	root   = "../.."
)

// file is one parsed Go file.
type file struct {
	path string // from the top of the repository
	text []byte
	tree *ast.File
}

func (f *file) test() bool { return strings.HasSuffix(f.path, "_test.go") }

// source is what the repository has in Go.
type source struct {
	fset     *token.FileSet
	files    []*file            // all of them, nested modules included
	packages map[string][]*file // of this module, without tests, by folder
}

// load reads the repository.
func load(t *testing.T) *source {
	t.Helper()
	s := &source{fset: token.NewFileSet(), packages: map[string][]*file{}}
	var nested []string
	walk(t, func(path string, text []byte) {
		switch {
		case filepath.Base(path) == "go.mod" && path != "go.mod":
			nested = append(nested, filepath.Dir(path)+"/")
		case strings.HasSuffix(path, ".go"):
			tree, err := parser.ParseFile(s.fset, path, text, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			s.files = append(s.files, &file{path, text, tree})
		}
	})
	for _, f := range s.files {
		inNested := slices.ContainsFunc(nested, func(dir string) bool { return strings.HasPrefix(f.path, dir) })
		if !f.test() && !inNested {
			dir := filepath.Dir(f.path)
			s.packages[dir] = append(s.packages[dir], f)
		}
	}
	if len(s.packages) < 10 {
		t.Fatalf("only %d packages found; is %s the top of the repository?", len(s.packages), root)
	}
	return s
}

// walk visits the files that belong to the repository: not what begins with a dot, test data or what was built.
func walk(t *testing.T, visit func(path string, text []byte)) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if path != "." && strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || path == "bin" {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || !textual(path) {
			return nil
		}
		text, err := os.ReadFile(name)
		if err == nil {
			visit(path, text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// textual reports whether people write the file by hand.
func textual(path string) bool {
	switch filepath.Ext(path) {
	case ".go", ".md", ".mod", ".yaml", ".sh":
		return true
	}
	return filepath.Base(path) == "Makefile"
}

// position returns where a node is, as path:line.
func (s *source) position(n ast.Node) string {
	p := s.fset.Position(n.Pos())
	return p.Filename + ":" + strconv.Itoa(p.Line)
}

// imports returns the paths that a file imports, with the node of each.
func (f *file) imports() map[string]ast.Node {
	all := map[string]ast.Node{}
	for _, i := range f.tree.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err == nil {
			all[path] = i
		}
	}
	return all
}
