package sched_test

import (
	"testing"

	"naru/sched"
)

// TestSipHash has the first and some other of the 64 vectors of the reference implementation (vectors.h, SipHash-2-4-64):
// key 00 01 .. 0f, message 00 01 .. of so many bytes. The one of 15 bytes is in the paper.
func TestSipHash(t *testing.T) {
	key := [2]uint64{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	message := make([]byte, 64)
	for i := range message {
		message[i] = byte(i)
	}
	for n, want := range map[int]uint64{
		0:  0x726fdb47dd0e0e31,
		1:  0x74f839c593dc67fd,
		2:  0x0d6c8009d9a94f5a,
		3:  0x85676696d7fb7e2d,
		7:  0xab0200f58b01d137,
		8:  0x93f5f5799a932462,
		15: 0xa129ca6149be45e5,
		63: 0x958a324ceb064572,
	} {
		if got := sched.SipHash(key, message[:n]); got != want {
			t.Errorf("%d bytes: %016x, want %016x", n, got, want)
		}
	}
}
