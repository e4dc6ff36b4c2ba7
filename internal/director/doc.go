// Package director puts a live naru together: devices, engines, the fence and what the kernel knows of the network.
//
// Contract: New checks the host against the configuration, takes the one place of the network namespace, puts the fence
// up, opens the devices (through a function of the caller: no driver is known here) and compiles the first snapshot.
// Run moves packets until its context ends; one goroutine, locked to a thread, is one worker with one engine. Reload
// and changes in the kernel take the same way: a new snapshot, swapped in; so does the path MTU of a backend, which is
// probed with echo requests (RFC 792, RFC 4443, in the manner of RFC 4821). Close takes everything down, the fence
// last.
//
// It does not read files, parse flags or handle signals, and changes no sysctl. Membership in the solicited-node groups
// of IPv6 addresses (RFC 4291 2.7.1) is asked of the devices; the reports about it are the engine's.
package director
