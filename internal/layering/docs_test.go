package layering

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// documents visits the Markdown files.
func documents(t *testing.T, visit func(path, text string)) {
	t.Helper()
	walk(t, func(path string, text []byte) {
		if filepath.Ext(path) == ".md" {
			visit(path, string(text))
		}
	})
}

var (
	testName = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w+)`")
	fileLink = regexp.MustCompile(`\]\(([^)#:]+)\)`)
)

func TestDocumentsNameTestsThatExist(t *testing.T) {
	have := map[string]bool{}
	for _, f := range load(t).files {
		for _, d := range f.tree.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && f.test() {
				have[fn.Name.Name] = true
			}
		}
	}
	documents(t, func(path, text string) {
		for _, m := range testName.FindAllStringSubmatch(text, -1) {
			if !have[m[1]] {
				t.Errorf("%s names %s, which does not exist", path, m[1])
			}
		}
	})
}

func TestDocumentsLinkToFilesThatExist(t *testing.T) {
	documents(t, func(path, text string) {
		for _, m := range fileLink.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", path, m[1], err)
			}
		}
	})
}

func TestEveryKeyOfTheConfigurationIsDocumented(t *testing.T) {
	const name = "docs/configuration.md"
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	keys := 0
	for _, f := range load(t).packages["internal/config"] {
		ast.Inspect(f.tree, func(n ast.Node) bool {
			list, ok := n.(*ast.CompositeLit)
			if !ok || !isFieldList(list) {
				return true
			}
			for _, e := range list.Elts {
				key := keyOf(e)
				keys++
				if key == "" || !strings.Contains(string(text), "`"+key+"`") {
					t.Errorf("%s: %s does not explain the key %q", f.path, name, key)
				}
			}
			return true
		})
	}
	if keys < 30 {
		t.Errorf("only %d keys found; how are they written now?", keys)
	}
}

// isFieldList reports whether a literal is a list of the keys of a mapping, []field{{"name", …}, …}.
func isFieldList(list *ast.CompositeLit) bool {
	array, ok := list.Type.(*ast.ArrayType)
	if !ok {
		return false
	}
	id, ok := array.Elt.(*ast.Ident)
	return ok && id.Name == "field"
}

func keyOf(e ast.Expr) string {
	if lit, ok := e.(*ast.CompositeLit); ok && len(lit.Elts) > 0 {
		if text, ok := lit.Elts[0].(*ast.BasicLit); ok && text.Kind == token.STRING {
			s, _ := strconv.Unquote(text.Value)
			return s
		}
	}
	return ""
}
