package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// kernelChoice is why a packet comes out of naru as something else than out of the kernel. The documentation has the same
// words.
type kernelChoice struct {
	why    string
	fields []string // these differ and no others; with some set, any of them
	some   bool
}

func (c *kernelChoice) may(diff []string) bool {
	if c.some {
		return !slices.ContainsFunc(diff, func(f string) bool { return !slices.Contains(c.fields, f) })
	}
	return slices.Equal(c.fields, diff)
}

// The choices. "frames 0, 1" is nothing of the kernel and a frame of naru.
var (
	choiceAnswer = &kernelChoice{"What the host itself sends", []string{"ip tos", "ip id", "ip flags, fragment offset",
		"ip checksum", "ip version, class, flow label"}, true}
	choiceFIN      = &kernelChoice{"A connection that is picked up at its FIN", []string{"frames 0, 1"}, false}
	choiceRoute    = &kernelChoice{"A record route option with room", []string{"ip checksum", "ip options"}, false}
	choiceEOL      = &kernelChoice{"Bytes behind the end of the IP options", []string{"ip checksum", "ip options"}, false}
	choiceAtomic   = &kernelChoice{"An atomic fragment", []string{"ip payload length", "ip next header", "ip extension headers"}, false}
	choiceQuote    = &kernelChoice{"A quoted TCP checksum", []string{"icmp checksum", "quoted tcp checksum"}, false}
	choicePort     = &kernelChoice{"A client port that is taken", []string{"tcp source port", "tcp checksum"}, false}
	choiceNoFlags  = &kernelChoice{"A segment without flags, to a closed port", []string{"frames 1, 0"}, false}
	choiceRouter   = &kernelChoice{"An ICMP error about a reply, by DSCP", []string{"ip checksum", "ip source", "icmp checksum"}, true}
	choiceOwnID    = &kernelChoice{"Fragments through NAT", nil, false}
	choiceHeld     = &kernelChoice{"Fragments in direct server return", nil, false}
	choiceRuleTTL  = &kernelChoice{"A TTL that is used up, by DSCP", []string{"frames 0, 1"}, false}
	choiceNoMemory = &kernelChoice{"What belongs to no connection, in direct server return", []string{"frames 1, 0"}, false}
)

var kernelChoices = []*kernelChoice{choiceAnswer, choiceFIN, choiceRoute, choiceEOL, choiceAtomic, choiceQuote, choicePort,
	choiceNoFlags, choiceRouter, choiceOwnID, choiceHeld, choiceRuleTTL, choiceNoMemory}

// documentedAsCounted wants the documentation to say how many packets come out the same, and how many differ by each choice.
func documentedAsCounted(t *testing.T, count *kernelCount) {
	t.Helper()
	text, err := os.ReadFile("../../docs/oracles.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{fmt.Sprintf("\n%d packets come out the same, and %d of neither.", count.same, count.neither)}
	for _, c := range kernelChoices {
		lines = append(lines, fmt.Sprintf("\n| %s | %d |", c.why, count.differ[c]))
	}
	for _, l := range lines {
		if !strings.Contains(string(text), l) {
			t.Errorf("docs/oracles.md does not say %q", strings.TrimSpace(l))
		}
	}
}
