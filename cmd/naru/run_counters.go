package main

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"text/tabwriter"

	"naru/forwarder"
	"naru/internal/link"
	"naru/internal/wire"
)

// printCounters prints what was counted from start to end; of the reasons only those that occurred.
func printCounters(w io.Writer, c *forwarder.Counters, stats map[string]link.Stats) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "PACKETS\tRECEIVED\tTRANSMITTED\tCONSUMED\tPASSED\tDROPPED\tHELD\n")
	fmt.Fprintf(tw, "\t%d\t%d\t%d\t%d\t%d\t%d\n", c.Received, c.Transmitted, c.Consumed, c.Passed, c.Dropped, c.Held)
	fmt.Fprintf(tw, "CONNECTIONS\tMADE\tENDED\tACTIVE\tEVICTED\tPORTS REUSED EARLY\tADDRESS CLASHES\n")
	fmt.Fprintf(tw, "\t%d\t%d\t%d\t%d\t%d\t%d\n", c.Connections, c.Ended, c.Active, c.EvictedClosed, c.PortReusedEarly,
		c.AddressClash)
	fmt.Fprintf(tw, "INTERFACE\tRECEIVED\tSENT\tMISSED\tTRUNCATED\tNOT SENT\n")
	for _, name := range slices.Sorted(maps.Keys(stats)) {
		s := stats[name]
		fmt.Fprintf(tw, "%s\t%d\t%d\t%d\t%d\t%d\n", name, s.RxFrames, s.TxFrames, s.RxMissed, s.RxTruncated, s.TxDropped)
	}
	_ = tw.Flush()
	printReasons(w, c)
}

// logCounters is printCounters as one message.
func logCounters(log *slog.Logger, c *forwarder.Counters, stats map[string]link.Stats) {
	reasons := map[string]uint64{}
	for r, n := range c.ByReason {
		if n > 0 && wire.Reason(r) != wire.ReasonNone {
			reasons[wire.Reason(r).String()] = n
		}
	}
	log.Info("counters", "received", c.Received, "transmitted", c.Transmitted, "consumed", c.Consumed, "passed", c.Passed,
		"dropped", c.Dropped, "held", c.Held, "connections", c.Connections, "ended", c.Ended, "active", c.Active,
		"evicted_closed", c.EvictedClosed, "port_reused_early", c.PortReusedEarly, "address_clash", c.AddressClash,
		"reasons", reasons, "interfaces", stats)
}

func printReasons(w io.Writer, c *forwarder.Counters) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	header := "REASON\tVERDICT\tPACKETS\tMEANING\n"
	for r, n := range c.ByReason {
		if n == 0 || wire.Reason(r) == wire.ReasonNone {
			continue
		}
		fmt.Fprint(tw, header)
		header = ""
		fmt.Fprintf(tw, "%s\t%s\t%d\t%s\n", wire.Reason(r), wire.Reason(r).Verdict(), n, wire.Reason(r).Advice())
	}
	_ = tw.Flush()
}
