package config

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// decoder walks the nodes of a file into a Config and gathers every problem on the way. It decodes by hand, since a
// reflecting decoder stops at the first mistake and forgets where the others stand.
type decoder struct {
	file     string
	problems []Problem
	keys     map[string]Position // of every key that was written, by its path
	values   map[string]Position // of its value
	empty    map[string]bool     // the paths of lists without items
	cfg      *Config
	defaults defaults
}

// value is one node of the file, and its path.
type value struct {
	path string
	node ast.Node
}

// report adds an error at a place.
func (d *decoder) report(pos Position, path, fix, format string, args ...any) {
	d.problems = append(d.problems, Problem{pos, path, fmt.Sprintf(format, args...), fix, false})
}

// fail adds an error at the value of a path.
func (d *decoder) fail(path, fix, format string, args ...any) {
	d.report(lookup(d.values, path, d.file), path, fix, format, args...)
}

// failKey adds an error at the key of a path: the key itself is what should not be there.
func (d *decoder) failKey(path, fix, format string, args ...any) {
	d.report(lookup(d.keys, path, d.file), path, fix, format, args...)
}

// warn adds a warning at the value of a path.
func (d *decoder) warn(path, fix, format string, args ...any) {
	d.fail(path, fix, format, args...)
	d.problems[len(d.problems)-1].Warning = true
}

// lookup returns the position of a path, or of the nearest thing around it that the file has.
func lookup(at map[string]Position, path, file string) Position {
	for {
		if pos, ok := at[path]; ok {
			return pos
		}
		if path == "" {
			return Position{File: file}
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

// start returns where a node begins. The parser hangs a block mapping on its first colon.
func (d *decoder) start(n ast.Node) Position {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return d.position(m.Values[0].Key.GetToken())
	}
	return d.position(n.GetToken())
}

// place remembers where a value stands, with its key if it has one.
func (d *decoder) place(v value, key *token.Token) {
	pos := d.start(v.node)
	if key != nil {
		d.keys[v.path] = d.position(key)
		if _, null := v.node.(*ast.NullNode); null {
			pos = d.keys[v.path]
		}
	} else {
		d.keys[v.path] = pos
	}
	d.values[v.path] = pos
	if seq, ok := v.node.(*ast.SequenceNode); ok && len(seq.Values) == 0 {
		d.empty[v.path] = true
	}
}

// kindOf names what a node is, for a sentence.
func kindOf(n ast.Node) string {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return "empty"
	case *ast.MappingNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.BoolNode:
		return n.GetToken().Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + shorten(n.GetToken().Value)
	case *ast.StringNode:
		return quoted(n.Value)
	case *ast.LiteralNode:
		return "a block of text"
	}
	return "something else"
}

// quoted returns s in quotes, shortened to what one can read.
func quoted(s string) string {
	const most = 48
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "..."
	}
	return fmt.Sprintf("%q", s)
}
