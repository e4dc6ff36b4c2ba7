package lab

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// untouched are the counters of a kernel that would move if it answered or forwarded what is naru's.
var untouched = []string{
	"TcpOutRsts", "IcmpOutDestUnreachs", "IcmpOutTimeExcds", "IcmpOutRedirects", "IpForwDatagrams",
	"Icmp6OutDestUnreachs", "Icmp6OutTimeExcds", "Icmp6OutRedirects", "Ip6OutForwDatagrams",
}

// wrongChecksums are the counters of a kernel that received a packet with a wrong checksum.
var wrongChecksums = []string{
	"IpInHdrErrors", "TcpInCsumErrors", "UdpInCsumErrors", "IcmpInCsumErrors", "Udp6InCsumErrors", "Icmp6InCsumErrors",
}

// kernelCounters reads /proc/net/snmp and /proc/net/snmp6 of a node: the names are as in untouched.
func (l *Lab) kernelCounters(node string) (map[string]uint64, error) {
	counters := map[string]uint64{}
	err := l.Do(node, func() error {
		// thread-self, because /proc/net shows the namespace of the process's first thread.
		for file, parse := range map[string]func(io.Reader, map[string]uint64){
			"/proc/thread-self/net/snmp":  parseSNMP,
			"/proc/thread-self/net/snmp6": parseSNMP6,
		} {
			f, err := os.Open(file)
			if err != nil {
				return fmt.Errorf("lab: counters: %w", err)
			}
			parse(f, counters)
			f.Close()
		}
		return nil
	})
	return counters, err
}

// parseSNMP reads pairs of lines: a protocol with its counters' names, and the same protocol with the values.
func parseSNMP(r io.Reader, into map[string]uint64) {
	var names []string
	for s := bufio.NewScanner(r); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) == 0 {
			continue
		}
		if len(names) != len(fields) || names[0] != fields[0] {
			names = fields
			continue
		}
		proto := strings.TrimSuffix(fields[0], ":")
		for i := 1; i < len(fields); i++ {
			if v, err := strconv.ParseUint(fields[i], 10, 64); err == nil { // some may be negative: not counters
				into[proto+names[i]] = v
			}
		}
		names = nil
	}
}

// parseSNMP6 reads lines of a name and a value.
func parseSNMP6(r io.Reader, into map[string]uint64) {
	for s := bufio.NewScanner(r); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) != 2 {
			continue
		}
		if v, err := strconv.ParseUint(fields[1], 10, 64); err == nil {
			into[fields[0]] = v
		}
	}
}
