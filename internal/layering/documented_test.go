package layering

import (
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestEveryPackageIsDocumented(t *testing.T) {
	s := load(t)
	for _, dir := range slices.Sorted(maps.Keys(s.packages)) {
		var docs []string
		for _, f := range s.packages[dir] {
			if f.tree.Doc != nil {
				docs = append(docs, f.tree.Doc.Text())
			}
		}
		switch name := s.packages[dir][0].tree.Name.Name; {
		case len(docs) == 0:
			t.Errorf("package %s has no doc comment", dir)
		case len(docs) > 1:
			t.Errorf("package %s has %d doc comments; write one", dir, len(docs))
		case name == "main" && !strings.HasPrefix(docs[0], "Command "):
			t.Errorf("the doc comment of command %s must begin with \"Command \"", dir)
		case name != "main" && !strings.HasPrefix(docs[0], "Package "+name+" "):
			t.Errorf("the doc comment of %s must begin with \"Package %s \"", dir, name)
		case name != "main" && strings.Count(docs[0], "\n") < 2:
			t.Errorf("the doc comment of %s must tell its contract and what it does not do", dir)
		}
	}
}

func TestEveryExportedNameIsDocumented(t *testing.T) {
	s := load(t)
	for _, dir := range slices.Sorted(maps.Keys(s.packages)) {
		for _, f := range s.packages[dir] {
			for _, d := range f.tree.Decls {
				for _, m := range undocumented(d) {
					t.Errorf("%s: %s.%s has no doc comment", s.position(m.node), dir, m.name)
				}
			}
		}
	}
}

// missing is an exported name without a comment.
type missing struct {
	node ast.Node
	name string
}

// undocumented returns the exported names of a declaration that nobody explains. A comment on a group counts for
// constants and variables, not for types.
func undocumented(d ast.Decl) (all []missing) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if name, shown := exportedFunc(d); shown && d.Doc == nil {
			all = append(all, missing{d, name})
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && (d.Doc == nil || d.Lparen != token.NoPos) {
					all = append(all, missing{s, s.Name.Name})
				}
			case *ast.ValueSpec:
				for _, name := range s.Names {
					if name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
						all = append(all, missing{s, name.Name})
					}
				}
			}
		}
	}
	return all
}

// exportedFunc returns the name of a function as its users write it, and whether it has users outside the package.
func exportedFunc(d *ast.FuncDecl) (name string, shown bool) {
	if d.Recv == nil {
		return d.Name.Name, d.Name.IsExported()
	}
	for e := d.Recv.List[0].Type; ; {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.Ident:
			return x.Name + "." + d.Name.Name, d.Name.IsExported() && x.IsExported()
		default:
			return d.Name.Name, d.Name.IsExported()
		}
	}
}
