package config

import (
	"fmt"
	"reflect"
)

// Changes says in words what differs between two configurations, a line each, in the order of the newer one: "+service
// mail", "-backend dns/d3", "~web/b3: weight 50 -> 100".
func Changes(old, now *Config) []string {
	out := []string{}
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	before := byName(old)
	for i := range now.Services {
		s := &now.Services[i]
		was := before[s.Name]
		delete(before, s.Name)
		if was == nil {
			say("+service %s", s.Name)
			continue
		}
		a, b := *was, *s
		a.Backends, b.Backends = nil, nil
		if !reflect.DeepEqual(a, b) {
			say("~service %s", s.Name)
		}
		backendChanges(say, was, s)
	}
	for i := range old.Services {
		if before[old.Services[i].Name] != nil {
			say("-service %s", old.Services[i].Name)
		}
	}
	if !reflect.DeepEqual(old.VIPs, now.VIPs) {
		say("~vips")
	}
	if !reflect.DeepEqual(old.Neighbors, now.Neighbors) {
		say("~neighbors")
	}
	return out
}

func byName(c *Config) map[string]*Service {
	m := make(map[string]*Service, len(c.Services))
	for i := range c.Services {
		m[c.Services[i].Name] = &c.Services[i]
	}
	return m
}

func backendChanges(say func(string, ...any), old, now *Service) {
	before := map[string]Backend{}
	for _, b := range old.Backends {
		before[b.Name] = b
	}
	for _, b := range now.Backends {
		was, there := before[b.Name]
		delete(before, b.Name)
		weight := was
		weight.Weight = b.Weight
		switch {
		case !there:
			say("+backend %s/%s", now.Name, b.Name)
		case was == b:
		case weight == b:
			say("~%s/%s: weight %d -> %d", now.Name, b.Name, was.Weight, b.Weight)
		case was.Address != b.Address:
			say("~%s/%s: address %v -> %v", now.Name, b.Name, was.Address, b.Address)
		default:
			say("~%s/%s", now.Name, b.Name)
		}
	}
	for _, b := range old.Backends {
		if _, left := before[b.Name]; left {
			say("-backend %s/%s", now.Name, b.Name)
		}
	}
}
