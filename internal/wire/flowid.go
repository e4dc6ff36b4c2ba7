package wire

// FlowID is the short name of a connection in everything that people read: records, captures, logs. It is a plain hash of
// the flow as the client sends it, so both directions have the same one, and a replay, another worker or another naru call
// the connection by the same name. It is no key: two of many connections may share one. 0 is none.
type FlowID uint32

const flowIDDigits = "0123456789abcdef"

// ID returns the name of the connection whose first packet has the flow: FNV-1a over addresses, ports and protocol.
func (f *Flow) ID() FlowID {
	h := uint32(2166136261)
	add := func(b byte) { h = (h ^ uint32(b)) * 16777619 }
	for _, a := range []*Addr{&f.Src, &f.Dst} {
		for _, b := range a {
			add(b)
		}
	}
	for _, v := range [...]uint16{f.SrcPort, f.DstPort} {
		add(byte(v >> 8))
		add(byte(v))
	}
	add(f.Proto)
	return FlowID(max(1, h))
}

// String returns the name as it is written everywhere: f- and eight hexadecimal digits; "-" for none.
func (id FlowID) String() string { return string(id.Append(make([]byte, 0, 10))) }

// Append appends what String returns to b.
func (id FlowID) Append(b []byte) []byte {
	if id == 0 {
		return append(b, '-')
	}
	b = append(b, 'f', '-')
	for i := range 8 {
		b = append(b, flowIDDigits[id>>(28-4*i)&15])
	}
	return b
}

// ParseFlowID reads a name that String wrote.
func ParseFlowID(s string) (id FlowID, ok bool) {
	if len(s) != 10 || s[:2] != "f-" {
		return 0, false
	}
	for _, c := range []byte(s[2:]) {
		switch {
		case c >= '0' && c <= '9':
			id = id<<4 | FlowID(c-'0')
		case c >= 'a' && c <= 'f':
			id = id<<4 | FlowID(c-'a'+10)
		default:
			return 0, false
		}
	}
	return id, id != 0
}
