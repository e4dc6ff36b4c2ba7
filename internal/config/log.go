package config

// Our own choices for log.
const (
	// DefaultFlowsFile is where the flow log goes.
	DefaultFlowsFile = "/var/log/naru/flows.jsonl"

	defaultFlowsRate = 10000
	maxFlowsRate     = 1000000
)

var defaultLog = Log{Flows: "off", FlowsFile: DefaultFlowsFile, FlowsRate: defaultFlowsRate}

// log reads what is written down of connections.
func (d *decoder) log(v value) {
	l := &d.cfg.Log
	d.mapping(v, []field{
		{"flows", func(v value) { set(&l.Flows)(d.oneOf(v, "off", "file", "syslog")) }},
		{"flows_file", func(v value) {
			if s := d.absoluteFile(v, DefaultFlowsFile); s != "" {
				l.FlowsFile = s
			}
			if l.Flows == "syslog" {
				d.failKey(v.path, `remove it, or write "flows: file"`, "syslog has files of its own")
			}
		}},
		{"flows_rate", func(v value) { set(&l.FlowsRate)(d.integer(v, 1, maxFlowsRate)) }},
	})
}
