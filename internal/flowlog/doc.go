// Package flowlog writes a line of JSON for every connection that begins and for every one that ends, to a file or to the
// host's syslog.
//
// Workers leave connections in a ring each and go on: nothing is allocated, locked or waited for there. A goroutine formats
// and writes them, no more than a rate; what finds no room in the ring, is beyond the rate or cannot be written is counted
// as lost. A file that was renamed or removed is made anew, within a second, so that log rotation needs no signal.
//
// It does not tell what becomes of single packets (package record), and connections that live when naru ends have no
// second line.
package flowlog
