// Command ipvs compares the schedulers with the kernel's IPVS, which runs in a virtual machine: for the same connections
// that come and go in the same order it compares which backend gets each.
//
// It unpacks a kernel package of Debian, builds an initial file system of the modules that are needed and of itself, and
// starts qemu, where it runs as the first process. There it plays the clients and the backends over two tun devices, one
// packet after the other, so nothing depends on time. The machine's clock jumps ahead whenever the machine is idle, so
// that waiting for connections to be forgotten takes no time.
//
// Three lists of choices are compared: those of IPVS, those of package sched for the same list of backends, and those of
// the rules that the documentation states of IPVS (rule.go), which shows that a difference is the documented one and
// nothing else. It ends with status 1 if a choice is not as the documentation says, with 2 if it could not try.
//
// What it does not do: it forwards nothing with naru, since only choices are compared, and it needs no root.
package main
