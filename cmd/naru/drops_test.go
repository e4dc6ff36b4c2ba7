package main

import (
	"testing"
	"time"

	"naru/internal/admin"
)

func TestDropsText(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	last := now.Add(-4 * time.Second)
	d := &admin.Drops{Received: 1000, Transmitted: 900, Consumed: 50, Passed: 32, Dropped: 18, Balanced: true, Missed: 3,
		Reasons: []admin.Reason{
			{Reason: "tcp_flags", Packets: 17, Rate: 0.5, Advice: "a port scan", Fix: "filter the sender", Last: &last,
				Samples: []admin.DropSample{{At: last, Interface: "eth0", Packet: "tcp 192.0.2.1:1 > 192.0.2.25:80 [FS]",
					Length: 60, Hex: "0102034142"}}},
			{Reason: "icmp_ignored", Packets: 1, Advice: "normal"},
		}}
	const table = `REASON        COUNT  RATE   LAST  WHAT TO DO
tcp_flags     17     0.5/s  4s    filter the sender
icmp_ignored  1      0/s    -     normal
`
	const rest = `the kernel dropped 3 before naru saw them: naru status -o wide says what to do
total 18 of 1000 (1.8000%)   received = 900 transmitted + 50 answered + 32 passed + 18 dropped + 0 held: balanced
`
	if got := dropsText(d, now, false, false); got != table+rest {
		t.Errorf("got\n%s\nwant\n%s", got, table+rest)
	}
	const samples = `REASON        COUNT  RATE   LAST  WHAT TO DO
tcp_flags     17     0.5/s  4s    a port scan: filter the sender
icmp_ignored  1      0/s    -     normal
  4s ago  eth0  tcp 192.0.2.1:1 > 192.0.2.25:80 [FS]  60 bytes
    00000000  01 02 03 41 42                                    |...AB|
`
	if got := dropsText(d, now, true, false); got != samples+rest {
		t.Errorf("got\n%s\nwant\n%s", got, samples+rest)
	}
	const none = `REASON  COUNT  RATE  LAST  WHAT TO DO
-       0      0/s   -     nothing was dropped
total 0 of 0 (0.0000%)   received = 0 transmitted + 0 answered + 0 passed + 0 dropped + 0 held: NOT BALANCED: ` +
		"this is a mistake in naru, please report it\n"
	if got := dropsText(&admin.Drops{}, now, false, false); got != none {
		t.Errorf("got\n%s\nwant\n%s", got, none)
	}
}
