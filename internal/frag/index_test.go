package frag

import (
	"testing"

	"naru/internal/wire"
)

// TestNobodyFillsABucket: datagrams as a flood brings them, one identification after the other from one address after the
// other, spread as if by chance.
func TestNobodyFillsABucket(t *testing.T) {
	const n = 4096
	for _, version := range []uint8{4, 6} {
		for key0 := range uint64(4) {
			table := New(n, 1, key0)
			buckets, crowds := map[uint32]int{}, map[uint32]int{}
			longest, largest := 0, 0
			for i := range uint32(n) {
				k := key{id: i % 64, version: version, proto: wire.ProtoUDP, dst: wire.Addr{15: 1}}
				k.src = wire.Addr4([]byte{10, 0, byte(i >> 14), byte(i >> 6)})
				if version == 6 {
					k.src, k.proto = wire.Addr{0x20, 1, 6: byte(i >> 14), 7: byte(i >> 6), 15: byte(i)}, 0
				}
				b, c := table.bucket(&k), table.crowd(&k)
				buckets[b]++
				crowds[c]++
				longest, largest = max(longest, buckets[b]), max(largest, crowds[c])
			}
			if longest > 8 {
				t.Errorf("version %d: %d datagrams in one bucket", version, longest)
			}
			if len(crowds) < 60 || largest > 3*64 {
				t.Errorf("version %d: 64 sources in %d crowds, %d datagrams in one", version, len(crowds), largest)
			}
		}
	}
}
