package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Limits are how many connections of a kind there may be, over all workers.
type Limits struct {
	Handshakes int // TCP that is not proven yet
	TCP        int // TCP that is proven and not closed
	UDP        int
}

// defaultLimits are in percent of node.connections. Handshakes are few when all is well, UDP must leave room for TCP.
var defaultLimits = Limits{Handshakes: 25, TCP: 100, UDP: 50}

// limits reads the mapping; fillLimits has put the defaults there.
func (d *decoder) limits(v value) {
	l := &d.cfg.Node.Limits
	d.mapping(v, []field{
		{"handshakes", func(v value) { set(&l.Handshakes)(d.part(v)) }},
		{"tcp", func(v value) { set(&l.TCP)(d.part(v)) }},
		{"udp", func(v value) { set(&l.UDP)(d.part(v)) }},
	})
}

// fillLimits sets the defaults, once it is known of how many connections.
func (n *Node) fillLimits() {
	of := func(percent int) int { return n.Connections * percent / 100 }
	n.Limits = Limits{Handshakes: of(defaultLimits.Handshakes), TCP: of(defaultLimits.TCP), UDP: of(defaultLimits.UDP)}
}

// part reads a part of node.connections: a number, or percent.
func (d *decoder) part(v value) (int, bool) {
	all := d.cfg.Node.Connections
	if n, isText := v.node.(*ast.StringNode); isText {
		if text, percent := strings.CutSuffix(n.Value, "%"); percent {
			p, err := strconv.Atoi(text)
			if err != nil || p < 1 || p > 100 || !isDecimal(text) {
				d.fail(v.path, "write 1% to 100%", "%s is out of range", quoted(n.Value))
				return 0, false
			}
			return all * p / 100, true
		}
	}
	if _, isNumber := v.node.(*ast.IntegerNode); !isNumber {
		d.fail(v.path, fmt.Sprintf("write percent of node.connections, as 25%%, or a number from 1 to %d", all), "%s",
			notA(v.node, "a part of node.connections"))
		return 0, false
	}
	return d.integer(v, 1, all)
}
