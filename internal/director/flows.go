package director

import (
	"log/slog"
	"time"

	"naru/internal/admin"
	"naru/internal/flowlog"
)

// startFlowLog opens the flow log, if there is one.
func (d *Director) startFlowLog(workers int) error {
	var sink flowlog.Sink
	var err error
	problem := HostProblem{Path: "log.flows_file", Fix: "make its folder, writable for the user that naru runs as, or name another file"}
	switch l := d.cfg.Log; l.Flows {
	case "off":
		return nil
	case "file":
		sink, err = flowlog.OpenFile(l.FlowsFile)
	case "syslog":
		problem.Path, problem.Fix = "log.flows", "start a syslog daemon or journald, or write \"flows: file\""
		sink, err = flowlog.OpenSyslog()
	}
	if err != nil {
		problem.Message = err.Error()
		return hostError([]HostProblem{problem})
	}
	d.flows = flowlog.Start(sink, flowlog.Options{Workers: workers, Rate: d.cfg.Log.FlowsRate,
		Zero: d.start.Add(-time.Second), Lost: d.flowsLost})
	return nil
}

// flowsLost is told of lines that the flow log does not have.
func (d *Director) flowsLost(lines uint64, err error) {
	args := []any{"lines", lines, "fix", "log.flows_rate is the most that is written a second"}
	if err != nil {
		args = []any{"lines", lines, "error", err}
	}
	d.say("flow log", slog.LevelWarn, "the flow log lacks lines", args...)
}

// flowLog is what the status says of the flow log; nil if there is none.
func (d *Director) flowLog() *admin.FlowLog {
	if d.flows == nil {
		return nil
	}
	out := &admin.FlowLog{To: d.cfg.Log.Flows}
	if out.To == "file" {
		out.To = d.cfg.Log.FlowsFile
	}
	out.Written, out.Lost = d.flows.Counts()
	return out
}
