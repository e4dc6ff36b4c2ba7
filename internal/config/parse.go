package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Our own limits. The parser is recursive and takes time by the square of the keys of one block mapping, so both are
// bounded before it runs; no configuration comes near.
const (
	// MaxSize is the largest configuration that Load reads, in bytes.
	MaxSize  = 1 << 20
	maxDepth = 32
	maxKeys  = 512
)

const byteOrderMark = "\ufeff"

// parse returns the root node of the only document, or nil if there is a problem.
func (d *decoder) parse(src []byte) ast.Node {
	if len(src) > MaxSize {
		d.report(Position{File: d.file}, "", "split the services over several files and several naru",
			"the file is larger than %d KiB", MaxSize>>10)
		return nil
	}
	text := strings.ReplaceAll(strings.TrimPrefix(string(src), byteOrderMark), "\r\n", "\n")
	if !d.checkText(text) {
		return nil
	}
	tokens := lexer.Tokenize(text)
	if !d.checkTokens(tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntaxError(err)
		return nil
	}
	return d.document(file)
}

// document returns the root of the file's only document.
func (d *decoder) document(file *ast.File) ast.Node {
	var root ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if root != nil {
			d.report(d.position(doc.Start), "", `remove the line "---" and merge what follows it`,
				"a second YAML document; a configuration is one document")
			return nil
		}
		root = doc.Body
	}
	if root == nil {
		d.report(Position{d.file, 1, 1}, "", "start with: naru config example", "there is no configuration in this file")
		return nil
	}
	if _, ok := root.(*ast.MappingNode); !ok {
		d.report(d.position(root.GetToken()), "", `the top level is a mapping, as "version: 1"`,
			"the file is %s, not a configuration", kindOf(root))
		return nil
	}
	return root
}

// checkText refuses what is no text before YAML sees it.
func (d *decoder) checkText(text string) bool {
	ok, line := true, 0
	for l := range strings.SplitSeq(text, "\n") {
		line++
		if col, what := badCharacter(l); what != "" {
			d.report(Position{d.file, line, col}, "", "save the file as plain text in UTF-8", "%s", what)
			ok = false
		}
		indent := l[:len(l)-len(strings.TrimLeft(l, " \t"))]
		rest := l[len(indent):]
		if tab := strings.IndexByte(indent, '\t'); tab >= 0 && rest != "" && rest[0] != '#' {
			d.report(Position{d.file, line, tab + 1}, "", "indent with spaces", "a tab in the indentation")
			ok = false
		}
	}
	return ok
}

// badCharacter returns the column of the first character that has no place in a text file, and what it is.
func badCharacter(line string) (col int, what string) {
	for i, r := range line {
		col++
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(line[i:]); size == 1 {
				return col, fmt.Sprintf("byte 0x%02x is not UTF-8", line[i])
			}
		}
		if r != '\t' && unicode.IsControl(r) {
			return col, fmt.Sprintf("control character %U", r)
		}
	}
	return 0, ""
}

// refused are the parts of YAML that a configuration does without, and what to do instead.
var refused = map[token.Type][2]string{
	token.AnchorType:     {"anchors are not supported", `write the value out, or put it into "defaults"`},
	token.AliasType:      {"aliases are not supported", `write the value out, or put it into "defaults"`},
	token.MergeKeyType:   {"merge keys are not supported", `write the keys out, or put them into "defaults"`},
	token.TagType:        {"tags are not supported", "remove the tag"},
	token.DirectiveType:  {"directives are not supported", "remove the line"},
	token.MappingKeyType: {`"?" keys are not supported`, `write "key: value"`},
}

// checkTokens holds the limits of the parser and refuses the parts of YAML that we do without.
func (d *decoder) checkTokens(tokens token.Tokens) bool {
	var n nesting
	ok := true
	for i, tk := range tokens {
		if r, found := refused[tk.Type]; found {
			d.report(d.position(tk), "", r[1], "%s", r[0])
			ok = false
		}
		var before *token.Token
		if i > 0 {
			before = tokens[i-1]
		}
		if what := n.add(tk, before); what != "" {
			d.report(d.position(tk), "", "write it like naru config example", "%s", what)
			return false
		}
	}
	return ok
}

// nesting measures how deep a stream of tokens nests and how many keys its block mappings have.
type nesting struct {
	flow   int
	blocks []block
}

// block is a column at which a list or a mapping goes on.
type block struct{ col, keys int }

// add takes the next token and returns which limit it breaks, or "".
func (n *nesting) add(tk, before *token.Token) string {
	if n.flow == 0 && (before == nil || before.Position.Line != tk.Position.Line) {
		n.closeTo(tk.Position.Column)
	}
	switch tk.Type {
	case token.MappingStartType, token.SequenceStartType:
		n.flow++
	case token.MappingEndType, token.SequenceEndType:
		n.flow = max(0, n.flow-1)
	}
	if n.flow == 0 {
		switch {
		case tk.Type == token.SequenceEntryType:
			n.open(tk.Position.Column)
		case tk.Type == token.MappingValueType && before != nil:
			n.open(before.Position.Column).keys++
		}
	}
	if n.flow+len(n.blocks) > maxDepth {
		return fmt.Sprintf("nested deeper than %d levels", maxDepth)
	}
	if last := len(n.blocks) - 1; last >= 0 && n.blocks[last].keys > maxKeys {
		return fmt.Sprintf("a mapping with more than %d keys", maxKeys)
	}
	return ""
}

// closeTo ends the blocks right of a column.
func (n *nesting) closeTo(col int) {
	for len(n.blocks) > 0 && n.blocks[len(n.blocks)-1].col > col {
		n.blocks = n.blocks[:len(n.blocks)-1]
	}
}

// open returns the block at a column, a new one if need be.
func (n *nesting) open(col int) *block {
	n.closeTo(col)
	if last := len(n.blocks) - 1; last < 0 || n.blocks[last].col != col {
		n.blocks = append(n.blocks, block{col: col})
	}
	return &n.blocks[len(n.blocks)-1]
}

// syntaxFixes are what to do about the parser's messages, by a part of them.
var syntaxFixes = []struct{ part, fix string }{
	{"mapping value is not allowed", `put a value with ":" in quotes, and indent all keys of a mapping alike`},
	{"unexpected key name", `write "key: value", with a space after the colon`},
	{"non-map value", `write "key: value", with a space after the colon`},
	{"value is not allowed", "indent it like the items above"},
	{"']'", `close the list with "]", and put a comma between its items`},
	{"'}'", `close the mapping with "}", and put a comma between its keys`},
	{"end character", "close the quote"},
	{"reserved character", "put the value in quotes"},
}

// syntaxError reports an error of the parser, which stops at the first.
func (d *decoder) syntaxError(err error) {
	pos, msg := Position{d.file, 1, 1}, err.Error()
	if se := (*yaml.SyntaxError)(nil); errors.As(err, &se) {
		msg = se.Message
		pos = d.position(se.Token)
	}
	fix := "look at the indentation and the quotes of this line and the one before"
	for _, s := range syntaxFixes {
		if strings.Contains(msg, s.part) {
			fix = s.fix
			break
		}
	}
	d.report(pos, "", fix, "not valid YAML: %s", oneLine(msg))
}

// position returns where a token stands. The parser makes some tokens up, those stand at the start of the file.
func (d *decoder) position(tk *token.Token) Position {
	if tk == nil || tk.Position == nil {
		return Position{d.file, 1, 1}
	}
	return Position{d.file, max(1, tk.Position.Line), max(1, tk.Position.Column)}
}

func oneLine(s string) string { return string(bytes.Join(bytes.Fields([]byte(s)), []byte(" "))) }
