package afxdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"naru/internal/link"
	"naru/internal/wire"
)

// besideEvery is how many times Recv looks at its own sockets before it looks beside, unless Wait has seen something there:
// what comes beside (ARP, above all) must not wait for a pause.
const besideEvery = 32

// A Device is one interface of an Interfaces. It implements link.Device; Mode tells how it runs.
type Device struct {
	x      *Interfaces
	name   string
	lends  use // what a chunk is while this device lends it
	socks  []*socket
	beside Beside
	mode   Mode
	turn   int      // the socket to look at first
	since  int      // calls of Recv since it looked beside
	tap    int      // where the tap beside stands among what Wait polls
	heard  bool     // there may be something beside
	lent   []uint32 // chunks of the frames of the last Recv

	rxFrames, rxBytes            atomic.Uint64
	txFrames, txBytes, txDropped atomic.Uint64
}

var (
	_ link.Device = (*Device)(nil)
	_ link.Ringed = (*Device)(nil)
)

// Mode says how an interface runs.
type Mode struct {
	Native   bool // the driver runs the program; else the kernel does, which is slower
	ZeroCopy bool // the driver shares the memory; else the kernel copies
	Queues   int
}

// String returns the mode in words.
func (m Mode) String() string {
	run, memory := "generic", "copy"
	if m.Native {
		run = "native"
	}
	if m.ZeroCopy {
		memory = "zero copy"
	}
	return fmt.Sprintf("%s, %s, queues %d", run, memory, m.Queues)
}

// Mode returns how the device runs.
func (d *Device) Mode() Mode { return d.mode }

// Recv implements link.Device.
func (d *Device) Recv(batch []wire.Packet) (int, error) {
	if !d.x.enter() {
		return 0, link.ErrClosed
	}
	defer d.x.leave()
	d.takeBack()
	n := 0
	if d.since++; d.since < besideEvery {
		n = d.receive(batch)
	}
	if n > 0 || len(batch) == 0 || !d.heard && d.since < besideEvery {
		return n, nil
	}
	d.since, d.heard = 0, false
	if n, err := d.beside.Recv(batch); n > 0 || err != nil {
		for i := range batch[:n] {
			d.rxBytes.Add(uint64(batch[i].Len))
		}
		d.rxFrames.Add(uint64(n))
		return n, err
	}
	return d.receive(batch), nil
}

// takeBack ends the lending of the last Recv, and gives the kernel chunks to receive into.
func (d *Device) takeBack() {
	m := d.x.memory
	for _, n := range d.lent {
		if m.uses[n] == d.lends {
			m.put(n)
		}
	}
	d.lent = d.lent[:0]
	for _, s := range d.socks {
		s.reap(m)
		s.stock(m)
		s.wakeReceiver()
	}
}

// receive takes frames from the sockets in turn.
func (d *Device) receive(batch []wire.Packet) (n int) {
	var bytes uint64
	for range d.socks {
		s := d.socks[d.turn]
		d.turn = (d.turn + 1) % len(d.socks)
		k := s.rx.ready(len(batch) - n)
		for range k {
			desc := s.rx.take()
			place := uint32(desc.Addr / chunkSize)
			d.x.memory.uses[place] = d.lends
			d.lent = append(d.lent, place)
			f := &batch[n].Frame
			*f = wire.Frame{Buf: d.x.memory.chunk(place), Off: int(desc.Addr % chunkSize), Len: int(desc.Len), Leg: f.Leg}
			takeTag(f)
			bytes += uint64(f.Len)
			n++
		}
		if k > 0 {
			s.rx.release()
		}
	}
	if n > 0 {
		d.rxFrames.Add(uint64(n))
		d.rxBytes.Add(bytes)
	}
	return n
}

// takeTag takes the outer VLAN tag out of the bytes, as the kernel does for other drivers.
func takeTag(f *wire.Frame) {
	b := f.Bytes()
	if len(b) < wire.EthernetLen+wire.VLANTagLen {
		return
	}
	tpid := binary.BigEndian.Uint16(b[12:])
	if tpid != wire.TypeVLAN && tpid != wire.TypeQinQ {
		return
	}
	f.TPID, f.TCI = tpid, binary.BigEndian.Uint16(b[14:])
	copy(b[wire.VLANTagLen:16], b[:12])
	f.Off += wire.VLANTagLen
	f.Len -= wire.VLANTagLen
}

// Send implements link.Device.
func (d *Device) Send(frames []*wire.Frame) error {
	if !d.x.enter() {
		return link.ErrClosed
	}
	defer d.x.leave()
	if len(frames) == 0 {
		return nil
	}
	s, m := d.socks[0], d.x.memory
	if s.down {
		if err := d.flush(s); err != nil {
			return err
		}
		if s.down {
			d.txDropped.Add(uint64(len(frames)))
			return nil
		}
	}
	s.reap(m)
	longest := d.beside.Info().MTU + wire.EthernetLen
	var count, bytes, dropped uint64
	for _, f := range frames {
		if !fits(f, longest) {
			dropped++
			continue
		}
		length := uint64(f.Len)
		if s.tx.free(1) == 0 || !d.post(s, f) {
			if err := d.flush(s); err != nil {
				return err
			}
			if s.tx.free(1) == 0 || !d.post(s, f) {
				dropped++
				continue
			}
		}
		count++
		bytes += length
	}
	err := d.flush(s)
	lost := s.lost
	s.lost = 0
	d.txFrames.Add(count - min(count, lost))
	d.txBytes.Add(bytes)
	d.txDropped.Add(dropped + lost)
	return err
}

// flush has the kernel send what is in the ring. While the interface is down, what is in the ring stays there.
func (d *Device) flush(s *socket) error {
	s.tx.publish()
	err := s.kick()
	s.reap(d.x.memory)
	s.down = errors.Is(err, unix.ENETDOWN)
	switch {
	case s.down:
		return nil
	case errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV):
		return fmt.Errorf("afxdp: %s: %w", d.name, link.ErrGone)
	case err != nil:
		return fmt.Errorf("afxdp: %s: send: %w", d.name, err)
	}
	return nil
}

// fits reports whether a frame can be sent: it is one, no super-frame, and not longer than the interface carries; a tag is
// none of that length.
func fits(f *wire.Frame, longest int) bool {
	if f.Len < wire.EthernetLen || f.Super() {
		return false
	}
	if t := binary.BigEndian.Uint16(f.Bytes()[12:]); t == wire.TypeVLAN || t == wire.TypeQinQ {
		longest += wire.VLANTagLen
	}
	return f.Len <= min(longest, maxFrame-wire.VLANTagLen)
}

// post puts a frame into the ring: from where it lies, if we lent it and it is finished, else a copy. It is false when
// there is no chunk for that.
func (d *Device) post(s *socket, f *wire.Frame) bool {
	m := d.x.memory
	if n, ours := m.find(f.Buf); ours && m.uses[n] >= lent && f.TPID == 0 && f.Offload.Flags&wire.NeedsCsum == 0 {
		m.uses[n] = sent
		s.tx.put(unix.XDPDesc{Addr: uint64(n)*chunkSize + uint64(f.Off), Len: uint32(f.Len)})
		return true
	}
	n, ok := m.get(sent)
	if !ok {
		return false
	}
	to := m.chunk(n)
	length := place(to[kernelRoom+wire.Headroom:], f)
	s.tx.put(unix.XDPDesc{Addr: uint64(n)*chunkSize + kernelRoom + wire.Headroom, Len: uint32(length)})
	return true
}

// place copies a frame, with its tag, and finishes its checksum.
func place(to []byte, f *wire.Frame) int {
	b, shift := f.Bytes(), 0
	if f.TPID != 0 {
		shift = wire.VLANTagLen
		copy(to, b[:12])
		binary.BigEndian.PutUint16(to[12:], f.TPID)
		binary.BigEndian.PutUint16(to[14:], f.TCI)
		copy(to[16:], b[12:])
	} else {
		copy(to, b)
	}
	to = to[:len(b)+shift]
	o := &f.Offload
	start := int(o.CsumStart) + shift
	if field := start + int(o.CsumOffset); o.Flags&wire.NeedsCsum != 0 && field+2 <= len(to) {
		sum := ^wire.Fold(wire.Sum(to[start:], 0)) // the field holds the sum of the pseudo header
		if sum == 0 {
			sum = 0xffff // a UDP checksum of 0 is none; for others it is the same number
		}
		binary.BigEndian.PutUint16(to[field:], sum)
	}
	return len(to)
}

// Join implements link.Device. Neighbour discovery is seen beside.
func (d *Device) Join(mac [6]byte) error { return d.beside.Join(mac) }

// Leave implements link.Device.
func (d *Device) Leave(mac [6]byte) error { return d.beside.Leave(mac) }

// Info implements link.Device.
func (d *Device) Info() link.Info {
	info := d.beside.Info()
	info.Driver = "xdp " + d.mode.String()
	return info
}

// Refresh reads again what Info tells; call it when the kernel reports a link event.
func (d *Device) Refresh() error { return d.beside.Refresh() }

// Stats implements link.Device. What the kernel dropped beside counts too.
func (d *Device) Stats() link.Stats {
	b := d.beside.Stats()
	st := link.Stats{
		RxFrames: d.rxFrames.Load(), RxBytes: d.rxBytes.Load(), RxMissed: b.RxMissed, RxTruncated: b.RxTruncated,
		TxFrames: d.txFrames.Load(), TxBytes: d.txBytes.Load(), TxDropped: d.txDropped.Load(),
	}
	if d.x.enter() {
		for _, s := range d.socks {
			k := s.statistics()
			st.RxMissed += k.Rx_dropped + k.Rx_ring_full
		}
		d.x.leave()
	}
	return st
}

// Rings implements link.Ringed.
func (d *Device) Rings() (r link.Rings) {
	if !d.x.enter() {
		return r
	}
	defer d.x.leave()
	for _, s := range d.socks {
		k := s.statistics()
		r.RxDropped += k.Rx_dropped
		r.RxFull += k.Rx_ring_full
		r.RxInvalid += k.Rx_invalid_descs
		r.FillEmpty += k.Rx_fill_ring_empty_descs
		r.TxInvalid += k.Tx_invalid_descs
		r.TxEmpty += k.Tx_ring_empty_descs
	}
	r.Queues, r.QueuesNow = d.mode.Queues, d.x.queues(d.beside.Info().Name)
	return r
}

// Close implements link.Device: it closes all devices of the Interfaces, which share their memory.
func (d *Device) Close() error { return d.x.Close() }
