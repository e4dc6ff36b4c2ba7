package record

import (
	"fmt"
	"strings"
)

// hexRow is how many bytes a line of a hexdump has.
const hexRow = 16

// hexdump shows a packet as it came and the first frame that it has become, line by line, with a mark under each byte that
// changed (^^) or was put in (++). What is behind the last change is left out,
// and of an answer what is behind its headers.
func (p *pair) hexdump() string {
	var b strings.Builder
	last := p.l3 + p.overhead + 64
	for i := range p.after {
		if p.mark(i) != 0 && !p.made {
			last = max(last, i)
		}
	}
	captured := len(p.after) - p.madeUp
	end := min(captured, (last/hexRow+1)*hexRow)
	if captured-end <= hexRow {
		end = captured
	}
	for at := 0; at < end; at += hexRow {
		marks, before, after := "", "", ""
		changed := false
		for i := at; i < min(at+hexRow, end); i++ {
			after += fmt.Sprintf(" %02x", p.after[i])
			switch m := p.mark(i); m {
			case 0:
				marks += "   "
				before += fmt.Sprintf(" %02x", p.after[i])
			case '^':
				marks, changed = marks+" ^^", true
				before += fmt.Sprintf(" %02x", p.before[p.origin(i)])
			default:
				marks, changed = marks+" ++", true
				before += " --"
			}
		}
		if changed {
			fmt.Fprintf(&b, "  before %04x %s\n  after  %04x %s\n              %s\n", at, before, at, after,
				strings.TrimRight(marks, " "))
		} else {
			fmt.Fprintf(&b, "         %04x %s\n", at, after)
		}
	}
	if more := captured - end; more > 0 {
		fmt.Fprintf(&b, "  … %d more bytes\n", more)
	}
	if p.madeUp > 0 {
		fmt.Fprintf(&b, "  … %d bytes that were not captured\n", p.madeUp)
	}
	return b.String()
}

// origin is where a byte of the frame that left was in the frame that came; -1 for one that was put in.
func (p *pair) origin(i int) int {
	switch {
	case i < p.l3:
	case i < p.l3+p.overhead:
		return -1
	default:
		i -= p.overhead
	}
	if i >= len(p.before) {
		return -1
	}
	return i
}

// mark is '^' for a byte that changed, '+' for one that was put in, 0 for one that is as it was.
func (p *pair) mark(i int) byte {
	switch o := p.origin(i); {
	case o < 0:
		return '+'
	case p.before[o] != p.after[i]:
		return '^'
	}
	return 0
}
