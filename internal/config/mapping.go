package config

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"
)

// field is a key that a mapping may have.
type field struct {
	name string
	read func(value) // nil: a key of a later version
}

// later returns the keys that a mapping will have in a later version.
func later(names ...string) []field {
	fields := make([]field, len(names))
	for i, name := range names {
		fields[i].name = name
	}
	return fields
}

// mapping reads a mapping: each key that is written is given to its field, in the order of fields, so that what a later
// field builds on is there, wherever it stands in the file. It reports whether v is a mapping at all.
func (d *decoder) mapping(v value, fields []field) bool {
	m, ok := v.node.(*ast.MappingNode)
	if !ok {
		d.fail(v.path, `write it as "key: value" lines, or remove the key`, "must be a mapping, this is %s", kindOf(v.node))
		return false
	}
	written := map[string]value{}
	for _, pair := range m.Values {
		d.entry(v, pair, fields, written)
	}
	for _, f := range fields {
		if entry, ok := written[f.name]; ok {
			f.read(entry)
		}
	}
	return true
}

// entry files one pair of a mapping under written if it may stand there.
func (d *decoder) entry(parent value, pair *ast.MappingValueNode, fields []field, written map[string]value) {
	key := pair.Key.GetToken()
	child := value{join(parent.path, key.Value), pair.Value}
	if _, twice := written[key.Value]; twice {
		first := d.keys[child.path]
		d.report(d.position(key), child.path, "remove one of them", "given twice, first in line %d", first.Line)
		return
	}
	for _, f := range fields {
		switch {
		case f.name != key.Value:
			continue
		case f.read == nil:
			d.report(d.position(key), child.path, "remove it", "%q is not available in this version of naru", f.name)
		default:
			d.place(child, key)
			written[f.name] = child
		}
		return
	}
	d.unknown(child.path, d.position(key), key.Value, fields)
}

// unknown reports a key that no version has.
func (d *decoder) unknown(path string, pos Position, name string, fields []field) {
	known := make([]string, 0, len(fields))
	for _, f := range fields {
		if f.read != nil {
			known = append(known, f.name)
		}
	}
	if s := Suggest(name, known); s != "" {
		d.report(pos, path, "", "unknown field (did you mean %q?)", s)
		return
	}
	d.report(pos, path, "known here: "+strings.Join(known, ", "), "unknown field")
}

// need reports the keys that a mapping must have and has not.
func (d *decoder) need(v value, key, fix string) {
	if _, ok := d.keys[join(v.path, key)]; !ok {
		d.fail(v.path, fix, "%q is missing", key)
	}
}

// list gives each item of a list to read. It reports whether v is a list.
func (d *decoder) list(v value, example string, read func(i int, item value)) bool {
	seq, ok := v.node.(*ast.SequenceNode)
	if !ok {
		d.fail(v.path, "write it as "+example+", or remove the key", "must be a list, this is %s", kindOf(v.node))
		return false
	}
	for i, node := range seq.Values {
		item := value{fmt.Sprintf("%s[%d]", v.path, i), node}
		d.place(item, nil)
		read(i, item)
	}
	return true
}

// join returns the path of a key of the mapping at path. A key may be any text; it is printed as one word.
func join(path, key string) string {
	strange := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' && r != '-' }
	if strings.ContainsFunc(key, strange) || len(key) > maxName {
		key = quoted(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
