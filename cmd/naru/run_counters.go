//go:build linux

package main

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"naru/forwarder"
	"naru/internal/link"
	"naru/internal/wire"
)

// printCounters prints what was counted from start to end; of the reasons only those that occurred.
func printCounters(w io.Writer, c *forwarder.Counters, stats map[string]link.Stats) {
	table(w, "RECEIVED\tTRANSMITTED\tCONSUMED\tPASSED\tDROPPED\tHELD\tHANDED OVER",
		row(c.Received, c.Transmitted, c.Consumed, c.Passed, c.Dropped, c.Held, c.HandedOver))
	table(w, "CONNECTIONS\tENDED\tACTIVE\tEVICTED\tSTATELESS\tPORTS REUSED EARLY\tADDRESS CLASHES",
		row(c.Connections, c.Ended, c.Active, c.EvictedClosed+c.EvictedHandshakes+c.EvictedQuestions, c.Stateless,
			c.PortReusedEarly, c.AddressClash))
	var rows []string
	for _, name := range slices.Sorted(maps.Keys(stats)) {
		s := stats[name]
		rows = append(rows, name+"\t"+row(s.RxFrames, s.TxFrames, s.RxMissed, s.RxTruncated, s.TxDropped))
	}
	table(w, "INTERFACE\tRECEIVED\tSENT\tMISSED\tTRUNCATED\tNOT SENT", rows...)
	rows = nil
	for r, n := range c.ByReason {
		if r := wire.Reason(r); n > 0 && r != wire.ReasonNone {
			rows = append(rows, fmt.Sprintf("%s\t%s\t%d\t%s\t%s", r, r.Verdict(), n, r.Advice(), r.Fix()))
		}
	}
	table(w, "REASON\tVERDICT\tPACKETS\tMEANING\tWHAT TO DO", rows...)
}

// table prints a table, if it has rows, and an empty line.
func table(w io.Writer, header string, rows ...string) {
	if len(rows) == 0 {
		return
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "%s\n%s\n\n", header, strings.Join(rows, "\n"))
	_ = tw.Flush()
}

func row(numbers ...uint64) string {
	cells := make([]string, len(numbers))
	for i, n := range numbers {
		cells[i] = fmt.Sprint(n)
	}
	return strings.Join(cells, "\t")
}

// logCounters is printCounters as one message.
func logCounters(log *slog.Logger, c *forwarder.Counters, stats map[string]link.Stats) {
	reasons := map[string]uint64{}
	for r, n := range c.ByReason {
		if n > 0 && wire.Reason(r) != wire.ReasonNone {
			reasons[wire.Reason(r).String()] = n
		}
	}
	interfaces := map[string]map[string]uint64{}
	for name, s := range stats {
		interfaces[name] = map[string]uint64{
			"rx_frames": s.RxFrames, "rx_bytes": s.RxBytes, "rx_missed": s.RxMissed, "rx_truncated": s.RxTruncated,
			"tx_frames": s.TxFrames, "tx_bytes": s.TxBytes, "tx_dropped": s.TxDropped,
		}
	}
	log.Info("counters", "received", c.Received, "transmitted", c.Transmitted, "consumed", c.Consumed, "passed", c.Passed,
		"dropped", c.Dropped, "held", c.Held, "handed_over", c.HandedOver, "taken_over", c.TakenOver,
		"connections", c.Connections, "ended", c.Ended, "active", c.Active,
		"evicted_closed", c.EvictedClosed, "evicted_handshakes", c.EvictedHandshakes,
		"evicted_questions", c.EvictedQuestions, "stateless", c.Stateless,
		"idle_reset", c.IdleReset, "down_reset", c.DownReset, "down_forgotten", c.DownForgotten,
		"port_reused_early", c.PortReusedEarly, "address_clash", c.AddressClash,
		"reasons", reasons, "interfaces", interfaces)
}
