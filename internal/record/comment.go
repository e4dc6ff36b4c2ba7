package record

import (
	"strings"

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
func Comment(r *forwarder.Record) string {
	words := []string{r.Flow.String(), r.Verdict.String()}
	if r.Reason != wire.ReasonNone {
		words = append(words, "reason="+r.Reason.String())
	}
	if r.Service != "" {
		words = append(words, owner(r.Service, r.Backend), r.ModeName())
	}
	if d := direction(r); d != "" {
		words = append(words, d)
	}
	if r.NewConn {
		words = append(words, "new")
	}
	if r.Late {
		words = append(words, "late")
	}
	return strings.Join(words, " ")
}

func owner(service, backend string) string {
	if backend == "" {
		return service
	}
	return service + "/" + backend
}
