// Package roster knows which backends are in service: what the configuration says of each, what an operator ordered and
// what its health is, and what follows from the three at an instant.
//
// Contract: it is a state machine without I/O. Time is an argument and does not run backwards; the same orders at the same
// times give the same states and events, in the order in which the configuration names the backends. State follows the
// names of service and backend over a change of the configuration. Fill puts the state of an instant into a
// forwarder.Config, and Next tells when it will change by itself. It is not safe for several goroutines.
//
// It probes nobody, does not count how often a probe failed, and does not touch connections: the engine does that by the
// State of a backend.
package roster
