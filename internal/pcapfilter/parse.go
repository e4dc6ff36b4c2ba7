package pcapfilter

import (
	"fmt"
	"strings"
)

// longest is how many words an expression may have: our own choice, which also bounds how deep it is.
const longest = 1000

// parser reads one expression.
type parser struct {
	*lexer
	tags uint32 // "vlan" that were read
	last qualifier
	any  bool // any byte may be asked about
}

// Compile reads an expression; an empty one takes every frame. The error says what is wrong, and what would do.
func Compile(text string) (*Filter, error) {
	l, err := lex(text)
	if err != nil {
		return nil, fmt.Errorf("pcapfilter: %w", err)
	}
	if len(l.words) > longest {
		return nil, fmt.Errorf("pcapfilter: %d words, at most %d", len(l.words), longest)
	}
	if len(l.words) == 0 {
		return &Filter{text: text, test: func(*view) bool { return true }}, nil
	}
	p := &parser{lexer: l}
	t, err := p.expression()
	if err == nil && p.at < len(p.words) {
		err = fmt.Errorf("%q stands where the expression ends", p.peek())
	}
	if err != nil {
		return nil, fmt.Errorf("pcapfilter: %w", err)
	}
	return &Filter{text: text, test: t, all: p.any}, nil
}

// expression reads terms that are joined. Both conjunctions bind equally, from left to right.
func (p *parser) expression() (test, error) {
	x, err := p.term()
	for err == nil {
		how := p.take("and", "&&", "or", "||")
		if how == "" {
			return x, nil
		}
		var y test
		if y, err = p.term(); err == nil && strings.ContainsAny(how, "o|") {
			x = or(x, y)
		} else if err == nil {
			x = and(x, y)
		}
	}
	return nil, err
}

func (p *parser) term() (test, error) {
	if p.take("not", "!") != "" {
		x, err := p.term()
		if err != nil {
			return nil, err
		}
		return not(x), nil
	}
	if p.comparable() {
		return p.relation()
	}
	if p.take("(") != "" {
		x, err := p.expression()
		if err == nil && p.take(")") == "" {
			err = fmt.Errorf("a ) is missing%s", before(p.peek()))
		}
		return x, err
	}
	return p.primitive()
}

func before(w string) string {
	if w == "" {
		return ""
	}
	return fmt.Sprintf(" before %q", w)
}

// comparable reports whether what follows is a number of the frame, or a constant, that is compared with another one.
func (p *parser) comparable() bool {
	if p.at+1 < len(p.words) && p.words[p.at+1] == "[" {
		return true
	}
	depth := 0
	for _, w := range p.words[p.at:] {
		switch w {
		case "(", "[":
			depth++
		case ")", "]":
			if depth--; depth < 0 {
				return false
			}
		case "and", "&&", "or", "||", "not", "!":
			return false
		case "<", ">", "<=", ">=", "=", "==", "!=":
			if depth == 0 {
				return true
			}
		}
	}
	return false
}
