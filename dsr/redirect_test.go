package dsr

import (
	"bytes"
	"testing"

	"naru/internal/wire"
)

func TestRedirectChangesTheEthernetAddressesAndNothingElse(t *testing.T) {
	src, dst := wire.MAC{2, 0, 0, 0, 0, 1}, wire.MAC{2, 0, 0, 0, 0, 2}
	for _, c := range []struct{ name, rest string }{
		{"an IPv4 packet", "\x08\x00\x45payload"},
		{"a packet behind a VLAN tag", "\x81\x00\x00\x05\x86\xdd\x60payload"},
		{"a frame of a header only", "\x08\x06"},
	} {
		t.Run(c.name, func(t *testing.T) {
			offload := wire.Offload{Flags: wire.NeedsCsum, GSOType: wire.GSOTCPv4, GSOSize: 1448, CsumStart: 34}
			buf := bytes.Repeat([]byte{0xaa}, wire.Headroom+200)
			n := copy(buf[wire.Headroom+12:], c.rest)
			f := wire.Frame{Buf: buf, Off: wire.Headroom, Len: 12 + n, Offload: offload, TPID: 0x8100, TCI: 7, Leg: 3}
			want := bytes.Clone(buf)
			copy(want[wire.Headroom:], dst[:])
			copy(want[wire.Headroom+6:], src[:])
			Redirect(&f, &src, &dst)
			if !bytes.Equal(buf, want) {
				t.Errorf("the buffer is\n%x, want\n%x", buf, want)
			}
			if f.Off != wire.Headroom || f.Len != 12+n || f.Offload != offload || f.TPID != 0x8100 || f.TCI != 7 || f.Leg != 3 {
				t.Errorf("the frame became %+v", f)
			}
		})
	}
}
