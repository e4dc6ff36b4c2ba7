package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// word reads text. A plain integer is taken as it is written: a backend may be called 1.
func (d *decoder) word(v value, example string) (string, bool) {
	switch n := v.node.(type) {
	case *ast.StringNode:
		if n.Value != "" {
			return n.Value, true
		}
	case *ast.IntegerNode:
		return n.GetToken().Value, true
	case *ast.NullNode:
		d.fail(v.path, fmt.Sprintf("write a value, as %s, or remove the key", example), "is empty")
		return "", false
	}
	d.fail(v.path, "write it as "+example, "must be text, this is %s", kindOf(v.node))
	return "", false
}

// scalarText returns text or an integer as it is written, without a complaint about anything else.
func (d *decoder) scalarText(v value) (string, bool) {
	switch n := v.node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// oneOf reads one of a few words.
func (d *decoder) oneOf(v value, words ...string) (string, bool) {
	return d.among(v, words, words)
}

// among is oneOf where a slip may be one of other words, which are taken too.
func (d *decoder) among(v value, words, taken []string) (string, bool) {
	choice := strings.Join(words, ", ")
	n, ok := v.node.(*ast.StringNode)
	if ok && slices.Contains(words, n.Value) {
		return n.Value, true
	}
	fix := ""
	if ok {
		if s := Suggest(n.Value, taken); s != "" {
			fix = fmt.Sprintf("did you mean %q?", s)
		}
	}
	d.fail(v.path, fix, "%s", notA(v.node, "one of "+choice))
	return "", false
}

// notA is the message for a value of the wrong kind.
func notA(n ast.Node, what string) string {
	if kind := kindOf(n); kind != "empty" {
		return fmt.Sprintf("%s is not %s", kind, what)
	}
	return "is empty, not " + what
}

// boolean reads true or false.
func (d *decoder) boolean(v value) (bool, bool) {
	if n, ok := v.node.(*ast.BoolNode); ok {
		return n.Value, true
	}
	d.fail(v.path, "write true or false, without quotes", "%s", notA(v.node, "true or false"))
	return false, false
}

// integer reads a whole number between lo and hi.
func (d *decoder) integer(v value, lo, hi int) (int, bool) {
	between := fmt.Sprintf("write a whole number from %d to %d", lo, hi)
	var text string
	switch n := v.node.(type) {
	case *ast.IntegerNode:
		text = n.GetToken().Value
	case *ast.StringNode: // the parser calls a number of more than 64 bits text
		text = n.Value
		if t := n.GetToken().Type; (t == token.SingleQuoteType || t == token.DoubleQuoteType) && isDecimal(text) {
			d.fail(v.path, "write "+text+" without quotes", "must be a number, this is text")
			return 0, false
		}
	}
	if !isDecimal(strings.TrimPrefix(text, "-")) {
		d.fail(v.path, between, "%s", notA(v.node, "a decimal number"))
		return 0, false
	}
	i, err := strconv.Atoi(text)
	if err != nil || i < lo || i > hi {
		d.fail(v.path, between, "%s is out of range %d..%d", shorten(text), lo, hi)
		return 0, false
	}
	return i, true
}

// isDecimal reports whether s is a decimal number without a leading zero, which some take for octal.
func isDecimal(s string) bool {
	if s == "" || len(s) > 1 && s[0] == '0' {
		return false
	}
	return strings.Trim(s, "0123456789") == ""
}

// shorten returns s, or its start if it is long.
func shorten(s string) string {
	if len(s) > 24 {
		return s[:24] + "..."
	}
	return s
}

// duration reads a time with units between lo and hi, both included.
func (d *decoder) duration(v value, lo, hi time.Duration) (time.Duration, bool) {
	text := ""
	switch n := v.node.(type) {
	case *ast.StringNode:
		text = n.Value
	case *ast.IntegerNode, *ast.FloatNode:
		text = n.GetToken().Value
		if _, err := strconv.ParseFloat(text, 64); err == nil {
			d.fail(v.path, fmt.Sprintf(`write the unit, as "%ss"`, text), "%s has no unit", text)
			return 0, false
		}
	}
	t, ok := parseDuration(text)
	if !ok {
		d.fail(v.path, "write it as 30s, 2h4m or 1d (units ms, s, m, h, d)", "%s", notA(v.node, "a duration"))
		return 0, false
	}
	if t < lo || t > hi {
		d.fail(v.path, fmt.Sprintf("write a duration from %s to %s", printDuration(lo), printDuration(hi)),
			"%s is out of range", text)
		return 0, false
	}
	return t, true
}

// units are those of a duration.
var units = map[string]time.Duration{
	"us": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
}

// parseDuration reads numbers, each with a unit, as in 1d12h or 1.5s. A sign makes the whole negative.
func parseDuration(s string) (time.Duration, bool) {
	const most = float64(100 * 365 * 24 * time.Hour) // out of every range, but no overflow
	rest, negative := strings.CutPrefix(s, "-")
	sum := 0.0
	for first := true; first || rest != ""; first = false {
		unit := rest[span(rest, "0123456789."):]
		unit = unit[:span(unit, "abcdefghijklmnopqrstuvwxyz")]
		number := rest[:span(rest, "0123456789.")]
		f, err := strconv.ParseFloat(number, 64)
		size, known := units[unit]
		if err != nil || !known {
			return 0, false
		}
		sum = min(most, sum+f*float64(size))
		rest = rest[len(number)+len(unit):]
	}
	if negative {
		sum = -sum
	}
	return time.Duration(sum), true
}

// span returns how many bytes at the start of s are in set.
func span(s, set string) int { return len(s) - len(strings.TrimLeft(s, set)) }

// printDuration is the shortest form that parseDuration reads.
func printDuration(t time.Duration) string {
	if t == 0 {
		return "0s"
	}
	s := ""
	for _, unit := range []string{"d", "h", "m", "s", "ms", "us"} {
		if n := t / units[unit]; n > 0 {
			s += strconv.FormatInt(int64(n), 10) + unit
			t -= n * units[unit]
		}
	}
	return s
}
