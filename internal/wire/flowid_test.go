package wire

import "testing"

func TestFlowIDsReadBackAsTheyWereWritten(t *testing.T) {
	f := Flow{Src: Addr4([]byte{10, 20, 40, 80}), Dst: Addr4([]byte{200, 100, 50, 25}), SrcPort: 51000, DstPort: 80, Proto: 6}
	id := f.ID()
	if got, ok := ParseFlowID(id.String()); !ok || got != id {
		t.Errorf("%v reads back as %v, %v", id, got, ok)
	}
	// The name is a contract: a capture of yesterday must name its flows as one of tomorrow does.
	if id.String() != "f-accea781" {
		t.Errorf("the flow is named %v now", id)
	}
	g := f
	g.SrcPort++
	if g.ID() == id || f.ID() != id {
		t.Error("the name does not follow the flow")
	}
	for _, bad := range []string{"", "f-", "f-1234567", "f-123456789", "g-12345678", "f-1234567G", "f-00000000"} {
		if _, ok := ParseFlowID(bad); ok {
			t.Errorf("%q is read as a name", bad)
		}
	}
}
