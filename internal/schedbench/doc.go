// Package schedbench runs schedulers against a load in virtual time and tells what they made of it.
//
// Contract: the load is events in order, made from a seed or taken from a capture; every scheduler gets the same ones. A
// backend serves as many connections at a time as come; each lasts as long as the load says, times the backend's factor.
// Choosing is package sched's, as in the engine; slow start grows in the steps of package roster. The same input gives
// the same figures, but for the time that a choice takes, which is measured on this machine.
//
// It does not forward packets, and it does not know what a backend does when it has too much to do.
package schedbench
