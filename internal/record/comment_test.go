package record

import (
	"testing"

	"naru/forwarder"
	"naru/internal/conntrack"
	"naru/internal/wire"
)

func TestComments(t *testing.T) {
	transmitted := exampleRecord()
	transmitted.Flow = 0x1a2b3c4d
	late := *transmitted
	late.Late, late.Conn, late.NewConn, late.Mode, late.Encap = true, conntrack.None, false, forwarder.L3DSR, forwarder.EncapGUE
	for _, c := range []struct {
		record *forwarder.Record
		want   string
	}{
		{transmitted, "f-1a2b3c4d transmit web/server02 fullnat request new"},
		{&late, "f-1a2b3c4d transmit web/server02 l3dsr/gue late"},
		{&forwarder.Record{Conn: conntrack.None, Verdict: wire.Drop, Reason: wire.NoBackend, Service: "web", Flow: 1},
			"f-00000001 drop reason=no_backend web fullnat"},
		{&forwarder.Record{Conn: conntrack.None, Verdict: wire.Pass, Reason: wire.NotIP}, "- pass reason=not_ip"},
	} {
		if got := Comment(c.record); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}
