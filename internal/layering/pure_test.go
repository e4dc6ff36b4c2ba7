package layering

import (
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
	"testing"
)

// pure are the packages of the data path, those that are imported first: they see packets, and the time only as an
// argument.
var pure = []string{
	"internal/wire", "internal/state", "sched", "nat", "dsr", "internal/conntrack", "internal/neigh", "internal/frag", "internal/steer", "forwarder",
	"internal/roster",
}

// harmless is what a pure package may import besides ours: plain computation. Not os, net, log, context, math/rand,
// hash/maphash, sync (locks) and whatever does I/O, reads a clock or brings randomness.
var harmless = []string{
	"cmp", "encoding/binary", "errors", "fmt", "maps", "math/bits", "net/netip", "slices", "sync/atomic", "time",
}

// except is what one pure package may import and no other: the connection table is laid over memory that it is handed.
var except = map[string]string{"internal/conntrack": "unsafe"}

// only are the names that a pure package may use of a package of which it may not use everything: units of time, and
// errors of constructors.
var only = map[string][]string{
	"time": {"Duration", "Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour"},
	"fmt":  {"Errorf"},
}

func TestTheDataPathIsPure(t *testing.T) {
	s := load(t)
	c := newChecker(s)
	for _, dir := range pure {
		for _, f := range s.packages[dir] {
			for path, node := range f.imports() {
				if !strings.HasPrefix(path, module+"/") && !slices.Contains(harmless, path) && path != except[dir] {
					t.Errorf("%s: %s is pure but imports %s", s.position(node), dir, path)
				}
			}
		}
		for _, mistake := range c.impurities(dir) {
			t.Error(mistake)
		}
	}
}

func TestImpuritiesAreFound(t *testing.T) {
	for _, c := range []struct{ name, code, want string }{
		{"a goroutine", "func f() { go f() }", "starts a goroutine"},
		{"a channel", "func f(c chan int) {}", "uses a channel"},
		{"a select", "func f() { select {} }", "waits in a select"},
		{"the clock", `import "time"; func f() { _ = time.Now() }`, "uses time.Now"},
		{"the clock by another name", `import t "time"; var f = t.Now`, "uses time.Now"},
		{"output", `import "fmt"; func f() { fmt.Println() }`, "uses fmt.Println"},
		{"an error on the packet path", `import "fmt"; func f() any { return fmt.Errorf("x") }`, "returns no error"},
		{"a variable set", "var v int; func f() { v = 1 }", "changes v"},
		{"a variable set in another way", "var v int; func f() { v, x := 1, 2; _, _ = v, x }", ""},
		{"a variable counted", "var v int; func f() { v++ }", "changes v"},
		{"a field of a variable", "var v struct{ x [3]int }; func f() { v.x[1] += 2 }", "changes v"},
		{"an element of a map", "var v = map[int]int{}; func f() { v[1] = 1 }", "changes v"},
		{"an element deleted", "var v = map[int]int{}; func f() { delete(v, 1) }", "changes v"},
		{"bytes copied over", "var v [4]byte; func f(b []byte) { copy(v[:], b) }", "changes v"},
		{"bytes copied from", "var v [4]byte; func f(b []byte) { copy(b, v[:]) }", ""},
		{"an address kept", "var v int; func f() *int { return &v }", "keeps the address of v"},
		{"an address lent", "var v int; func f(*int) { f(&v) }", ""},
		{"a variable ranged into", "var v int; func f() { for v = range 3 { } }", "changes v"},
		{"an atomic variable", `import "sync/atomic"; var v atomic.Int64`, "v is shared state"},
		{"a local variable of the same name", "var v int; func f() { v := 1; v = 2; _ = v }", ""},
		{"a constant of time", `import "time"; const c = 3 * time.Second`, ""},
		{"an error of a constructor", `import "fmt"; func New() (int, error) { return 0, fmt.Errorf("x") }`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := impuritiesOf(t, c.code)
			switch {
			case c.want == "" && len(found) > 0:
				t.Errorf("found %v, want nothing", found)
			case c.want != "" && !slices.ContainsFunc(found, func(m string) bool { return strings.Contains(m, c.want) }):
				t.Errorf("found %v, want one that says %q", found, c.want)
			}
		})
	}
}

// checker finds out which name means which variable. Packages that are not ours are empty to it: what they are is not
// needed, and reading them would cost seconds.
type checker struct {
	source *source
	info   *types.Info
	done   map[string]*types.Package
}

func newChecker(s *source) *checker {
	return &checker{s, &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}},
		map[string]*types.Package{}}
}

// Import makes checker a types.Importer.
func (c *checker) Import(path string) (*types.Package, error) {
	if p := c.done[path]; p != nil {
		return p, nil
	}
	dir, ours := strings.CutPrefix(path, module+"/")
	if !ours {
		p := types.NewPackage(path, path[strings.LastIndex(path, "/")+1:])
		p.MarkComplete()
		c.done[path] = p
		return p, nil
	}
	if c.source.packages[dir] == nil {
		return nil, errors.New("no such package")
	}
	var trees []*ast.File
	for _, f := range c.source.packages[dir] {
		trees = append(trees, f.tree)
	}
	conf := types.Config{Importer: c, Error: func(error) {}} // the names of empty packages are all unknown
	p, _ := conf.Check(path, c.source.fset, trees, c.info)
	c.done[path] = p
	return p, nil
}

// impurities returns what a package does that the data path may not.
func (c *checker) impurities(dir string) (found []string) {
	if _, err := c.Import(module + "/" + dir); err != nil {
		return []string{dir + ": " + err.Error()}
	}
	for _, f := range c.source.packages[dir] {
		for _, d := range f.tree.Decls {
			v := &visitor{checker: c, lent: map[ast.Expr]bool{}, report: func(n ast.Node, format string, args ...any) {
				found = append(found, c.source.position(n)+": "+dir+" is pure but "+fmt.Sprintf(format, args...))
			}}
			if fn, ok := d.(*ast.FuncDecl); ok {
				v.makesErrors = returnsError(fn.Type)
			}
			v.sharedState(d)
			ast.Inspect(d, v.visit)
		}
	}
	return found
}

// returnsError reports whether the last result of a function is an error.
func returnsError(f *ast.FuncType) bool {
	if f.Results == nil {
		return false
	}
	id, ok := f.Results.List[len(f.Results.List)-1].Type.(*ast.Ident)
	return ok && id.Name == "error"
}

// visitor looks at one declaration.
type visitor struct {
	*checker
	makesErrors bool
	lent        map[ast.Expr]bool // arguments of calls: an address there is only read, as review sees to
	report      func(n ast.Node, format string, args ...any)
}

func (v *visitor) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GoStmt:
		v.report(n, "starts a goroutine")
	case *ast.SelectStmt:
		v.report(n, "waits in a select")
	case *ast.ChanType:
		v.report(n, "uses a channel")
	case *ast.SelectorExpr:
		v.selector(n)
	case *ast.AssignStmt:
		for _, e := range n.Lhs {
			v.changes(e)
		}
	case *ast.IncDecStmt:
		v.changes(n.X)
	case *ast.RangeStmt:
		v.changes(n.Key)
		v.changes(n.Value)
	case *ast.UnaryExpr:
		if name := v.global(n.X); n.Op == token.AND && name != "" && !v.lent[n] {
			v.report(n, "keeps the address of %s", name)
		}
	case *ast.CallExpr:
		for _, arg := range n.Args {
			v.lent[arg] = true
		}
		if id, ok := n.Fun.(*ast.Ident); ok && slices.Contains([]string{"copy", "clear", "delete"}, id.Name) {
			v.changes(n.Args[0])
		}
	}
	return true
}

// selector looks at a name of another package.
func (v *visitor) selector(n *ast.SelectorExpr) {
	id, ok := n.X.(*ast.Ident)
	if !ok {
		return
	}
	name, ok := v.info.Uses[id].(*types.PkgName)
	if !ok {
		return
	}
	path := name.Imported().Path()
	if allowed, limited := only[path]; limited && !slices.Contains(allowed, n.Sel.Name) {
		v.report(n, "uses %s.%s; it may use %s", path, n.Sel.Name, strings.Join(allowed, ", "))
	}
	if path == "fmt" && !v.makesErrors {
		v.report(n, "uses fmt in a function that returns no error")
	}
}

// changes reports a write to a package variable.
func (v *visitor) changes(e ast.Expr) {
	if name := v.global(e); name != "" {
		v.report(e, "changes %s", name)
	}
}

// sharedState reports package variables that are made to be changed.
func (v *visitor) sharedState(d ast.Decl) {
	gen, ok := d.(*ast.GenDecl)
	if !ok || gen.Tok != token.VAR {
		return
	}
	for _, s := range gen.Specs {
		spec := s.(*ast.ValueSpec)
		sel, ok := spec.Type.(*ast.SelectorExpr)
		if !ok {
			continue
		}
		if id, ok := sel.X.(*ast.Ident); ok && (id.Name == "atomic" || id.Name == "sync") {
			v.report(spec, "its variable %s is shared state", spec.Names[0].Name)
		}
	}
}

// global returns the package variable that an expression is a part of, or nothing.
func (v *visitor) global(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.ParenExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.SelectorExpr:
			if v.isGlobal(x.Sel) {
				return x.Sel.Name
			}
			e = x.X
		case *ast.Ident:
			if v.isGlobal(x) {
				return x.Name
			}
			return ""
		default:
			return ""
		}
	}
}

func (v *visitor) isGlobal(id *ast.Ident) bool {
	obj, ok := v.info.Uses[id].(*types.Var)
	return ok && obj.Pkg() != nil && obj.Parent() == obj.Pkg().Scope()
}
