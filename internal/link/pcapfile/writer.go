package pcapfile

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

const (
	nanoseconds  = 9 // of the resolution option: 10^-9
	maxOption    = 65535
	writerBuffer = 256 << 10 // our own choice
)

// Writer writes a pcapng file: one section in little-endian order, Ethernet, nanoseconds. The same calls give the same
// bytes. The first error stays; Flush returns it.
type Writer struct {
	out        *bufio.Writer
	interfaces int
	block      []byte // the one at hand
	err        error
}

// NewWriter begins a file.
func NewWriter(out io.Writer) *Writer {
	w := &Writer{out: bufio.NewWriterSize(out, writerBuffer)}
	w.begin(blockSection)
	w.word(byteOrderMagic)
	w.half(1) // version 1.0
	w.half(0)
	w.word(0xffffffff) // the section's length is not given
	w.word(0xffffffff)
	w.end()
	return w
}

// AddInterface describes an interface and returns its index. It may be called between packets. comment may be empty.
func (w *Writer) AddInterface(name, comment string) int {
	w.begin(blockInterface)
	w.half(uint16(LinkEthernet))
	w.half(0)
	w.word(0) // no snapshot length
	w.option(optComment, comment)
	w.option(optName, name)
	w.option(optResolution, string([]byte{nanoseconds}))
	w.word(optEnd)
	w.end()
	w.interfaces++
	return w.interfaces - 1
}

// Packet writes a frame that was seen on an interface, at so many nanoseconds since 1970. length is what it had on the
// wire, at least len(data). comment may be empty.
func (w *Writer) Packet(iface int, at int64, data []byte, length int, comment string) {
	if w.packet(iface, at, data, length) && comment != "" {
		w.option(optComment, comment)
		w.word(optEnd)
	}
	w.end()
}

// PacketBytes is Packet for a comment in bytes, which are not kept.
func (w *Writer) PacketBytes(iface int, at int64, data []byte, length int, comment []byte) {
	if w.packet(iface, at, data, length) && len(comment) > 0 {
		comment = comment[:min(len(comment), maxOption)]
		w.half(optComment)
		w.half(uint16(len(comment)))
		w.block = append(w.block, comment...)
		w.pad()
		w.word(optEnd)
	}
	w.end()
}

// packet begins the block of a packet; without the interface there is none.
func (w *Writer) packet(iface int, at int64, data []byte, length int) bool {
	w.block = w.block[:0]
	if iface < 0 || iface >= w.interfaces {
		w.fail(fmt.Errorf("pcapfile: interface %d of %d", iface, w.interfaces))
		return false
	}
	w.begin(blockEnhanced)
	w.word(uint32(iface))
	w.word(uint32(uint64(at) >> 32))
	w.word(uint32(uint64(at)))
	w.word(uint32(len(data)))
	w.word(uint32(max(length, len(data))))
	w.block = append(w.block, data...)
	w.pad()
	return true
}

// Flush writes what is buffered and returns the first error.
func (w *Writer) Flush() error {
	w.fail(w.out.Flush())
	return w.err
}

func (w *Writer) fail(err error) {
	if w.err == nil && err != nil {
		w.err = err
	}
}

// begin starts a block; its length is filled in by end.
func (w *Writer) begin(kind uint32) {
	w.block = w.block[:0]
	w.word(kind)
	w.word(0)
}

// end writes the block, if one was begun.
func (w *Writer) end() {
	if len(w.block) == 0 {
		return
	}
	total := uint32(len(w.block) + 4)
	binary.LittleEndian.PutUint32(w.block[4:], total)
	w.word(total)
	_, err := w.out.Write(w.block)
	w.fail(err)
}

func (w *Writer) word(v uint32) { w.block = binary.LittleEndian.AppendUint32(w.block, v) }
func (w *Writer) half(v uint16) { w.block = binary.LittleEndian.AppendUint16(w.block, v) }

func (w *Writer) pad() {
	for len(w.block)%4 != 0 {
		w.block = append(w.block, 0)
	}
}

// option leaves an empty one out and cuts one that is too long.
func (w *Writer) option(code uint16, value string) {
	if value == "" {
		return
	}
	value = value[:min(len(value), maxOption)]
	w.half(code)
	w.half(uint16(len(value)))
	w.block = append(w.block, value...)
	w.pad()
}
