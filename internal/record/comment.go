package record

import (
	"naru/forwarder"
	"naru/internal/wire"
)

// Comment is what a capture says about a packet: the words of a decision, separated by spaces, the same for the packet as
// it came and for the frames that it has become. In order, each where it is known:
//
//	f-1a2b3c4d            the connection, forwarder.Record.Flow
//	transmit              the verdict; drop, pass, consume and held have their reason=NAME
//	web/server02          service and backend, or the service alone
//	fullnat               the mode, l3dsr with its encapsulation
//	request, reply        the direction
//	new                   the packet made the connection
//	late                  it was held before
func Comment(r *forwarder.Record) string { return string(AppendComment(nil, r)) }

// AppendComment appends Comment to b; it allocates nothing where b has room.
func AppendComment(b []byte, r *forwarder.Record) []byte {
	word := func(parts ...string) {
		b = append(b, ' ')
		for _, p := range parts {
			b = append(b, p...)
		}
	}
	b = r.Flow.Append(b)
	word(r.Verdict.String())
	if r.Reason != wire.ReasonNone {
		word("reason=", r.Reason.String())
	}
	if r.Service != "" {
		word(r.Service)
		if r.Backend != "" {
			b = append(append(b, '/'), r.Backend...) // as owner has it
		}
		word(r.Mode.String())
		if r.Mode == forwarder.L3DSR {
			b = append(append(b, '/'), r.Encap.String()...)
		}
	}
	if d := direction(r); d != "" {
		word(d)
	}
	if r.NewConn {
		word("new")
	}
	if r.Late {
		word("late")
	}
	return b
}

func owner(service, backend string) string {
	if backend == "" {
		return service
	}
	return service + "/" + backend
}
