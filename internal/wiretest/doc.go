// Package wiretest is for tests only: it builds frames by foreign code, reads captures, makes network namespaces joined by
// veth pairs that leave nothing behind, and drives the kernel's own translation in them, NAT and stateless, as an oracle.
// What it cannot do fails the test that asked for it.
package wiretest
