package forwarder

import (
	"time"

	"naru/internal/neigh"
	"naru/internal/wire"
)

// Our own choices, but for the number of announcements (RFC 5227 1.1: ANNOUNCE_NUM, ANNOUNCE_INTERVAL).
const (
	announcements    = 2
	announceInterval = 2 * time.Second
	reportInterval   = 125 * time.Second // of multicast memberships, RFC 9777 9.2
	announceRun      = 64                // addresses that one Tick looks at
)

// announcer tells the segment which addresses are ours: a probe, which another holder of the address would answer, and an
// announcement at once, so that traffic comes without delay; the announcement once more, in case the first was lost. For
// IPv6 it also reports the membership in the solicited-node group, for switches that filter multicast. Worker 0 does it.
type announcer struct {
	items []announceItem
	next  int
}

type announceItem struct {
	addr wire.Addr
	due  wire.Time
	mac  wire.MAC // what was announced
	leg  uint8
	said uint8 // announcements made
}

// restartAnnouncer looks at a new snapshot: what was announced before is not announced again.
func (e *Engine) restartAnnouncer(s *Snapshot) {
	a := &e.tell
	type key struct {
		addr wire.Addr
		mac  wire.MAC
		leg  uint8
	}
	before := make(map[key]announceItem, len(a.items))
	for _, it := range a.items {
		before[key{it.addr, it.mac, it.leg}] = it
	}
	var items []announceItem
	for _, o := range s.order {
		for leg := range s.legs {
			if e.opt.Worker != 0 || !e.answers(o.addr, uint8(leg)) {
				continue
			}
			item, told := before[key{o.addr, s.legs[leg].MAC, uint8(leg)}]
			if !told {
				item = announceItem{addr: o.addr, leg: uint8(leg), mac: s.legs[leg].MAC, due: e.now}
			}
			items = append(items, item)
		}
	}
	a.items, a.next = items, 0
}

// announceSome sends the announcements that are due, some of them a call.
func (e *Engine) announceSome() {
	a := &e.tell
	if e.announce.CompareAndSwap(true, false) {
		for i := range a.items {
			a.items[i].said, a.items[i].due = 0, e.now
		}
	}
	for range min(announceRun, len(a.items)) {
		if e.own.used+3 > ownFrames {
			return
		}
		it := &a.items[a.next]
		a.next = (a.next + 1) % len(a.items)
		if e.now < it.due {
			continue
		}
		e.announceOne(it)
	}
}

func (e *Engine) announceOne(it *announceItem) {
	mac := e.snap.legs[it.leg].MAC
	wait := announceInterval
	if it.addr.Is4() {
		if it.said == 0 {
			f, b := e.make(it.leg, wire.Broadcast, wire.TypeARP, wire.ARPLen)
			neigh.PutARP(b, false, mac, wire.Addr4(make4), wire.MAC{}, it.addr)
			e.emit(f)
		}
		f, b := e.make(it.leg, wire.Broadcast, wire.TypeARP, wire.ARPLen)
		neigh.PutARP(b, false, mac, it.addr, wire.MAC{}, it.addr)
		e.emit(f)
		if it.said+1 == announcements {
			wait = 1 << 62
		}
	} else {
		e.announceIPv6(it, mac)
		if it.said+1 >= announcements {
			wait = reportInterval
		}
	}
	it.said = min(it.said+1, announcements)
	it.due = e.now + wire.Time(wait)
	if it.due < e.now {
		it.due = 1<<63 - 1
	}
}

func (e *Engine) announceIPv6(it *announceItem, mac wire.MAC) {
	group, groupMAC := neigh.SolicitedNode(it.addr)
	if it.said == 0 {
		f, b := e.make(it.leg, groupMAC, wire.TypeIPv6, neigh.NDLen)
		neigh.PutProbe(b, group, it.addr)
		f.Len = wire.EthernetLen + neigh.ProbeLen
		e.emit(f)
	}
	if it.said < announcements {
		f, b := e.make(it.leg, neigh.AllNodesMAC, wire.TypeIPv6, neigh.NDLen)
		neigh.PutAdvertise(b, it.addr, mac, neigh.AllNodes, false)
		e.emit(f)
	}
	f, b := e.make(it.leg, neigh.ReportMAC, wire.TypeIPv6, neigh.ReportLen)
	neigh.PutReport(b, e.linkLocal(it.leg), group)
	e.emit(f)
}

// linkLocal returns the leg's link-local address, or :: when it has none (RFC 3590).
func (e *Engine) linkLocal(leg uint8) wire.Addr {
	for _, a := range e.snap.legs[leg].Addrs {
		if addr := wire.AddrFrom(a.Addr()); addr.LinkLocal() {
			return addr
		}
	}
	return wire.Addr{}
}
