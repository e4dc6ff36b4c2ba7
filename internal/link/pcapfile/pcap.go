package pcapfile

import "encoding/binary"

const (
	fileHeaderLen   = 24
	recordLen       = 16
	patchedRecord   = 24 // of Kuznetzov's patched libpcap
	magicMicro      = 0xa1b2c3d4
	magicNano       = 0xa1b23c4d
	magicPatched    = 0xa1b2cd34
	fcsPresent      = 1 << 26 // in the field of the link type
	swappedNever    = 0
	swappedPerhaps  = 1 // version 2.3: some programs did, some did not
	swappedAlways   = 2 // before
	minorUnswapped  = 4
	minorUncertain  = 3
	knownMajor      = 2
	microseconds    = 1000
	fcsWords        = 28
	fcsBytesPerWord = 2
)

// fileHeader reads the header of a pcap file.
func (r *Reader) fileHeader(magic []byte) error {
	var word uint32
	for _, o := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if m := o.Uint32(magic); m == magicMicro || m == magicNano || m == magicPatched {
			r.order, word = o, m
		}
	}
	if r.order == nil {
		return r.fault("this is no capture file: it begins with %x", magic)
	}
	h, err := r.rest(fileHeaderLen)
	if err != nil {
		return err
	}
	r.unit, r.header, r.big = microseconds, recordLen, r.order == binary.ByteOrder(binary.BigEndian)
	switch word {
	case magicNano:
		r.unit = 1
	case magicPatched:
		r.header = patchedRecord
	}
	major, minor := r.order.Uint16(h[4:]), r.order.Uint16(h[6:])
	switch {
	case major != knownMajor:
		return r.fault("version %d.%d of pcap is not known", major, minor)
	case minor < minorUncertain:
		r.swapped = swappedAlways
	case minor < minorUnswapped:
		r.swapped = swappedPerhaps
	}
	network := r.order.Uint32(h[20:])
	i := Interface{Link: LinkType(network), SnapLen: r.order.Uint32(h[16:])}
	if network&fcsPresent != 0 {
		i.fcs = int(network>>fcsWords) * fcsBytesPerWord
	}
	r.interfaces = append(r.interfaces, i)
	r.skip(fileHeaderLen)
	return nil
}

// nextRecord reads a packet of a pcap file. The file's snapshot length is not believed.
func (r *Reader) nextRecord(p *Packet) error {
	h, err := r.need(r.header)
	if err != nil {
		return err
	}
	var sec, frac, captured, length uint32
	if r.big {
		be := binary.BigEndian
		sec, frac, captured, length = be.Uint32(h), be.Uint32(h[4:]), be.Uint32(h[8:]), be.Uint32(h[12:])
	} else {
		le := binary.LittleEndian
		sec, frac, captured, length = le.Uint32(h), le.Uint32(h[4:]), le.Uint32(h[8:]), le.Uint32(h[12:])
	}
	if r.swapped == swappedAlways || r.swapped == swappedPerhaps && captured > length {
		captured, length = length, captured
	}
	if captured > MaxPacket {
		return r.fault("a packet of %d captured bytes; the file is damaged, or no capture", captured)
	}
	b, err := r.rest(r.header + int(captured))
	if err != nil {
		return err
	}
	i := &r.interfaces[0]
	*p = Packet{Time: int64(sec)*1e9 + int64(frac)*r.unit, Timed: true, Link: i.Link, Data: b[r.header:],
		Length: int(max(length, captured))}
	i.cut(p)
	r.skip(r.header + int(captured))
	return nil
}
