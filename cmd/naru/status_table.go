package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"naru/internal/admin"
)

// statusView is how much of a status is printed.
type statusView struct{ wide, rate, stats, bare bool }

// printStatus prints the status for people.
func printStatus(w io.Writer, s *admin.Status, v statusView) error {
	drops := 0.0
	if s.Packets.Received > 0 {
		drops = 100 * float64(s.Packets.Dropped) / float64(s.Packets.Received)
	}
	if !v.bare {
		fmt.Fprintf(w, "NODE %s  up %s  %s rev %d  health %s  connections %s/%s  drops %.2f%%\n", s.Node, age(s.Uptime),
			s.Config.File, s.Config.Revision, strings.ToUpper(s.Health), human(float64(s.Connections.Active)),
			human(float64(s.Connections.Capacity)), drops)
		if s.Config.Error != "" {
			fmt.Fprintf(w, "reload refused %s ago: %s\n", age(s.Started.Add(seconds(s.Uptime)).Sub(*s.Config.ErrorTime).Seconds()),
				s.Config.Error)
		}
		fmt.Fprintln(w)
	}
	if err := printServices(w, s, v); err != nil {
		return err
	}
	if v.wide {
		printParts(w, s, v)
	}
	return nil
}

// printServices prints a line a service and, below it, a line a backend.
func printServices(w io.Writer, s *admin.Status, v statusView) error {
	var text strings.Builder
	tw := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	if !v.bare {
		fmt.Fprintf(tw, "SERVICE\tVIP\tMODE\tSCHED\tSTATE\t%s\tNOTE\n", trafficHead(v))
	}
	changed := false
	for _, svc := range s.Services {
		mode := svc.Mode
		if svc.Encap != "" {
			mode += "/" + svc.Encap
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t\n", svc.Service, vipText(&svc), mode, svc.Scheduler, stateWord(svc.State),
			trafficCells(&svc.Traffic, v))
		for _, b := range svc.Backends {
			weight := fmt.Sprintf("w %d", b.Weight)
			if b.Weight != b.Configured {
				weight, changed = weight+"*", true
			}
			fmt.Fprintf(tw, "  -> %s\t%s\t%s\t%.1f%%\t%s\t%s\t%s\n", b.Backend, hostPort(b.Address, b.Port), weight, 100*b.Share,
				b.State, trafficCells(&b.Traffic, v), note(&b))
		}
	}
	_ = tw.Flush()
	for line := range strings.Lines(text.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	if changed && !v.bare {
		fmt.Fprintln(w, "\n* changed at run time, not in the file; naru ready SERVICE/BACKEND takes it back")
	}
	return nil
}

func trafficHead(v statusView) string {
	switch {
	case v.stats:
		return "CONNS\tMADE\tIN PKTS\tIN BYTES\tOUT PKTS\tOUT BYTES"
	case v.rate:
		return "CONNS\tNEW/S\tIN PKTS/S\tIN\tOUT PKTS/S\tOUT"
	}
	return "CONNS\tNEW/S\tIN\tOUT"
}

func trafficCells(t *admin.Traffic, v statusView) string {
	conns := human(float64(t.Active))
	const unseen = "n/a"
	if v.stats {
		out := unseen + "\t" + unseen
		if t.Out != nil {
			out = fmt.Sprintf("%d\t%d", t.Out.Packets, t.Out.Bytes)
		}
		return fmt.Sprintf("%s\t%d\t%d\t%d\t%s", conns, t.Made, t.In.Packets, t.In.Bytes, out)
	}
	packets := func(r *admin.Rate) string { return human(r.Packets) + "\t" }
	if !v.rate {
		packets = func(*admin.Rate) string { return "" }
	}
	out := unseen
	if v.rate {
		out += "\t" + unseen
	}
	if t.OutRate != nil {
		out = packets(t.OutRate) + human(t.OutRate.Bits) + "b/s"
	}
	return fmt.Sprintf("%s\t%s\t%s%sb/s\t%s", conns, human(t.NewRate), packets(&t.InRate), human(t.InRate.Bits), out)
}

// vipText is address, ports and protocol of a service, as 203.0.113.10:80/tcp.
func vipText(s *admin.Service) string {
	ports := strings.Join(s.Ports, ",")
	if ports == "any" {
		ports = "*"
	}
	return hostPort(s.VIP, 0) + ":" + ports + "/" + s.Protocol
}

// hostPort is an address with its port, if it has one of its own.
func hostPort(addr string, port int) string {
	if addr == "" {
		return "-"
	}
	if strings.Contains(addr, ":") {
		addr = "[" + addr + "]"
	}
	if port == 0 {
		return addr
	}
	return fmt.Sprintf("%s:%d", addr, port)
}

// stateWord makes a service without a backend stand out.
func stateWord(state string) string {
	if state == admin.Down {
		return "DOWN"
	}
	return state
}

// note is what else there is to say about a backend.
func note(b *admin.Backend) string {
	var all []string
	if b.Why != "" {
		all = append(all, b.Why)
	}
	if b.Deadline != nil && b.State != "disabled" {
		all = append(all, age(*b.Deadline)+" left")
	}
	if b.State == admin.Up && b.SlowStart < 1 {
		all = append(all, fmt.Sprintf("slow start %.0f%%", 100*b.SlowStart))
	}
	return strings.Join(all, ", ")
}

// printParts prints what is not about services.
func printParts(w io.Writer, s *admin.Status, v statusView) {
	var rows []string
	add := func(format string, args ...any) { rows = append(rows, fmt.Sprintf(format, args...)) }
	flush := func(head string) {
		if len(rows) > 0 {
			fmt.Fprintln(w)
		}
		printTable(w, head, rows, v.bare)
		rows = nil
	}
	for _, i := range s.Interfaces {
		state := "up"
		if !i.Up {
			state = "DOWN"
		}
		add("%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d", i.Name, i.Side, state, i.Driver, i.MTU, i.RxFrames, i.TxFrames, i.RxMissed,
			i.RxTruncated, i.TxDropped)
	}
	flush("INTERFACE\tSIDE\tSTATE\tDRIVER\tMTU\tRECEIVED\tSENT\tMISSED\tTRUNCATED\tNOT SENT")
	for _, i := range s.Interfaces {
		if r := i.Rings; r != nil {
			add("%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d", i.Name, r.Queues, r.QueuesNow, r.RxDropped, r.RxFull, r.FillEmpty, r.TxEmpty,
				r.RxInvalid, r.TxInvalid)
		}
	}
	flush("XDP RINGS\tQUEUES SERVED\tTHERE ARE\tRX DROPPED\tRX FULL\tFILL EMPTY\tTX EMPTY\tRX INVALID\tTX INVALID")
	for _, k := range s.Workers {
		cpu := "any"
		if k.CPU >= 0 {
			cpu = strconv.Itoa(k.CPU)
		}
		add("%d\t%s\t%d\t%d\t%d\t%d\t%d\t%d", k.Worker, cpu, k.Connections, k.Capacity, k.Received, k.Transmitted,
			k.Dropped, k.HandedOver)
	}
	flush("WORKER\tCPU\tCONNECTIONS\tOF\tRECEIVED\tTRANSMITTED\tDROPPED\tHANDED OVER")
	for _, p := range s.Ports {
		left := "-"
		if p.Exhausted != nil {
			left = age(*p.Exhausted)
		}
		add("%s/%s\t%s\t%d\t%d\t%s", p.Service, p.Backend, p.Local, p.Free, p.Size, left)
	}
	flush("LOCAL PORTS\tADDRESS\tFREE\tOF\tEXHAUSTED IN")
	for _, r := range s.Reasons {
		add("%s\t%s\t%d\t%s/s\t%s", r.Reason, r.Verdict, r.Packets, human(r.Rate), r.Advice)
	}
	flush("REASON\tVERDICT\tPACKETS\tRATE\tMEANING")
	if l := s.FlowLog; l != nil {
		add("%s\t%d\t%d", l.To, l.Written, l.Lost)
		flush("FLOW LOG\tWRITTEN\tLOST")
	}
	for _, h := range s.Hints {
		fmt.Fprintf(w, "hint: %s\n", h)
	}
}

func printTable(w io.Writer, head string, rows []string, bare bool) {
	if len(rows) == 0 {
		return
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if !bare {
		fmt.Fprintln(tw, head)
	}
	fmt.Fprintln(tw, strings.Join(rows, "\n"))
	_ = tw.Flush()
}
