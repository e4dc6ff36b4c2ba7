package config

import (
	"fmt"
	"slices"
)

// Load reads the text of a configuration. file is its name in positions.
//
// With a good text it returns the Config and the warnings, in the order of the file. Otherwise the Config is nil and
// the error is an *InvalidError with all problems, the warnings among them. It does not keep src.
func Load(file string, src []byte) (*Config, []Problem, error) {
	d := &decoder{
		file:   file,
		keys:   map[string]Position{},
		values: map[string]Position{},
		empty:  map[string]bool{},
		cfg: &Config{
			File:  file,
			Node:  Node{Connections: defaultConnections, CPUs: CPUs{Auto: true}},
			IO:    defaultIO,
			Fence: "nft",
			Admin: Admin{Socket: DefaultSocket},
			Log:   defaultLog,
		},
		defaults: defaults{scheduler: "rr", choice: defaultChoice, reject: "rst", midstream: "reject", timeouts: defaultTimeouts,
			health: defaultHealth, onBackendDown: defaultOnBackendDown, onIdle: "silent"},
	}
	d.cfg.Node.fillLimits()
	d.load(src)
	problems := sortProblems(d.problems)
	if errors, _ := Count(problems); errors > 0 {
		return nil, nil, &InvalidError{problems}
	}
	d.cfg.places = d.values
	return d.cfg, problems, nil
}

// load reads src. The YAML library has panicked on odd input before; a panic is a problem of the file like any other.
func (d *decoder) load(src []byte) {
	defer func() {
		if r := recover(); r != nil {
			d.report(Position{File: d.file}, "", "write it in a simpler way",
				"cannot read this YAML: %s", oneLine(fmt.Sprint(r)))
		}
	}()
	root := d.parse(src)
	if root == nil {
		return
	}
	d.root(value{"", root})
	d.check()
	d.completeVIPs()
}

// completeVIPs adds the VIPs of services that "vips" does not list.
func (d *decoder) completeVIPs() {
	for _, s := range d.cfg.Services {
		same := func(v VIP) bool { return v.Address == s.VIP }
		if !slices.ContainsFunc(d.cfg.VIPs, same) {
			d.cfg.VIPs = append(d.cfg.VIPs, VIP{Address: s.VIP, Owner: "naru", Reject: d.defaults.reject, Echo: "answer"})
		}
	}
}

// At returns where the value of a path stands in the file, as services[0].nat.source_ports. For a key that was not
// written it is the place of the nearest thing around it.
func (c *Config) At(path string) Position { return lookup(c.places, path, c.File) }

// Problem returns an error at the value of a path, for what only the machine can tell: Format prints it like the
// problems of Load.
func (c *Config) Problem(path, message, fix string) Problem {
	return Problem{Position: c.At(path), Path: path, Message: message, Fix: fix}
}
