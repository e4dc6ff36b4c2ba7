package layering

import (
	"go/parser"
	"go/token"
	"testing"
)

// impuritiesOf returns what is impure in a package of a few lines.
func impuritiesOf(t *testing.T, code string) []string {
	t.Helper()
	s := &source{fset: token.NewFileSet(), packages: map[string][]*file{}}
	tree, err := parser.ParseFile(s.fset, "p.go", "package p;"+code, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	s.packages["p"] = []*file{{path: "p.go", tree: tree}}
	return newChecker(s).impurities("p")
}
