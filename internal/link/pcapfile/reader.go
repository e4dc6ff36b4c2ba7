package pcapfile

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Our own choices.
const (
	// MaxPacket is the longest packet that is read, in bytes, as in libpcap. A record that claims more is a fault.
	MaxPacket = 256 << 10
	// MaxInterfaces is how many interfaces a file may have, over all sections.
	MaxInterfaces = 4096

	window = 512 << 10 // bytes of a file in memory; more than a packet with its header
)

// ErrTruncated says that a file ends in the middle of a packet or block. What was read before is good.
var ErrTruncated = errors.New("pcapfile: the file ends in the middle of a packet")

// Error is a fault in a file.
type Error struct {
	Offset int64 // of the faulty record or block, in bytes, uncompressed
	What   string
}

// Error returns place and fault.
func (e *Error) Error() string { return fmt.Sprintf("pcapfile: at byte %d: %s", e.Offset, e.What) }

// Packet is one captured packet. Data and Comment are valid until the next call of Next.
type Packet struct {
	Time      int64 // nanoseconds since 1970; of a packet without a time that of the one before it
	Timed     bool  // the file tells the time
	Interface int   // index into Interfaces
	Link      LinkType
	Length    int    // bytes that the packet had on the wire; Data may have fewer
	Data      []byte // from the link layer's header on
	Comment   []byte // of pcapng; the first one
}

// Interface is where packets were captured. A pcap file has one without a name.
type Interface struct {
	Name    string
	Link    LinkType
	SnapLen uint32

	fcs    int    // bytes of a frame check sequence behind each packet
	base   uint64 // ticks a second, 0 for 2^shift
	shift  uint
	offset int64 // seconds
}

// Reader reads one file.
type Reader struct {
	in     io.Reader
	buf    []byte // of window bytes
	lo, hi int    // what is unread
	at     int64  // offset of buf[lo]
	err    error  // of in

	order      binary.ByteOrder
	big        bool
	ng         bool
	interfaces []Interface
	last       int64 // time of the packet before

	// pcap
	unit    int64 // nanoseconds of the fraction
	header  int   // bytes of a record's header
	swapped int   // the two lengths stand the other way round: always, if that makes sense, never

	// pcapng
	section  int   // interfaces of earlier sections
	owed     int64 // length of a block of which only owedDone bytes were moved over; 0: none
	owedDone int64
}

// NewReader reads the header of a file.
func NewReader(in io.Reader) (*Reader, error) {
	r := &Reader{buf: make([]byte, window)}
	b := bufio.NewReaderSize(in, 64<<10)
	r.in = b
	if magic, _ := b.Peek(2); len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("pcapfile: gzip: %w", err)
		}
		r.in = z
	}
	magic, err := r.need(4)
	if err != nil && r.err != io.EOF {
		return nil, err
	}
	if err != nil {
		return nil, r.fault("this is no capture file: it is %d bytes long", r.hi-r.lo)
	}
	if binary.BigEndian.Uint32(magic) == blockSection {
		r.ng = true
		return r, r.firstSection()
	}
	return r, r.fileHeader(magic)
}

// Interfaces returns the interfaces that were named so far.
func (r *Reader) Interfaces() []Interface { return r.interfaces }

// Offset returns how many bytes of the file, uncompressed, have been read.
func (r *Reader) Offset() int64 { return r.at }

// Next reads the next packet. The error is io.EOF at the end, ErrTruncated, an *Error, or one of the stream.
func (r *Reader) Next(p *Packet) error {
	if r.ng {
		return r.nextBlock(p)
	}
	return r.nextRecord(p)
}

// need returns the next n bytes, n at most window, without moving on. io.EOF if there is none, ErrTruncated if there are
// fewer.
func (r *Reader) need(n int) ([]byte, error) {
	for r.hi-r.lo < n {
		if r.err != nil {
			return nil, r.ended()
		}
		if r.lo > 0 {
			r.hi = copy(r.buf, r.buf[r.lo:r.hi])
			r.lo = 0
		}
		m, err := r.in.Read(r.buf[r.hi:])
		r.hi += m
		r.err = err
	}
	return r.buf[r.lo : r.lo+n], nil
}

func (r *Reader) ended() error {
	switch {
	case r.err == io.EOF && r.hi == r.lo:
		return io.EOF
	case r.err == io.EOF || r.err == io.ErrUnexpectedEOF: // the latter of gzip
		return ErrTruncated
	}
	return fmt.Errorf("pcapfile: at byte %d: %w", r.at, r.err)
}

// rest is need for what belongs to something that has begun.
func (r *Reader) rest(n int) ([]byte, error) {
	b, err := r.need(n)
	if err == io.EOF {
		err = ErrTruncated
	}
	return b, err
}

func (r *Reader) skip(n int) { r.lo, r.at = r.lo+n, r.at+int64(n) }

// discard moves on by any number of bytes.
func (r *Reader) discard(n int64) error {
	for n > 0 {
		if r.lo == r.hi {
			if _, err := r.rest(1); err != nil {
				return err
			}
		}
		m := int(min(n, int64(r.hi-r.lo)))
		r.skip(m)
		n -= int64(m)
	}
	return nil
}

func (r *Reader) fault(format string, args ...any) error {
	return &Error{r.at, fmt.Sprintf(format, args...)}
}

// cut takes a frame check sequence off a packet that was captured whole.
func (i *Interface) cut(p *Packet) {
	if i.fcs > 0 && len(p.Data) == p.Length && len(p.Data) > i.fcs {
		p.Data, p.Length = p.Data[:len(p.Data)-i.fcs], p.Length-i.fcs
	}
}
