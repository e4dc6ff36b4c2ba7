package pcapfilter

import (
	"fmt"
	"strings"
)

// lexer cuts an expression into words.
type lexer struct {
	words []string
	at    int
}

// operators, the longer ones first.
var operators = []string{"<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "(", ")", "[", "]", "!", "<", ">", "=", "+", "-",
	"*", "/", "%", "&", "|", "^", ":"}

func lex(text string) (*lexer, error) {
	l := &lexer{}
	inside := 0 // brackets: a colon is no part of an address there
	for rest := text; rest != ""; {
		if strings.ContainsRune(" \t\r\n", rune(rest[0])) {
			rest = rest[1:]
			continue
		}
		w := word(rest, inside > 0)
		if w == "" {
			w = operator(rest)
		}
		switch w {
		case "":
			return nil, fmt.Errorf("%q means nothing here", rest[:1])
		case "[":
			inside++
		case "]":
			inside--
		}
		l.words, rest = append(l.words, w), rest[len(w):]
	}
	return l, nil
}

func operator(text string) string {
	for _, o := range operators {
		if strings.HasPrefix(text, o) {
			return o
		}
	}
	return ""
}

// word returns the name, number or address that a text begins with.
func word(text string, inside bool) string {
	if text[0] == ':' && (inside || !strings.HasPrefix(text, "::")) {
		return ""
	}
	n := 0
	for n < len(text) {
		c := text[n]
		letter := c|32 >= 'a' && c|32 <= 'z' || c == '_' || c == '\\'
		digit := c >= '0' && c <= '9'
		named := text[0]|32 >= 'a' && text[0]|32 <= 'z' // as tcp-syn is
		if letter || digit || c == '.' || c == ':' && !inside || c == '-' && named && n > 0 {
			n++
			continue
		}
		break
	}
	return strings.TrimRight(text[:n], "-")
}

func (l *lexer) peek() string {
	if l.at < len(l.words) {
		return l.words[l.at]
	}
	return ""
}

func (l *lexer) next() string {
	w := l.peek()
	if w != "" {
		l.at++
	}
	return w
}

// take goes past one of some words, and returns which.
func (l *lexer) take(words ...string) string {
	for _, w := range words {
		if l.peek() == w {
			l.at++
			return w
		}
	}
	return ""
}
