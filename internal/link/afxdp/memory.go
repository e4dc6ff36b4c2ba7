package afxdp

import (
	"unsafe"

	"naru/internal/wire"
)

// A chunk holds one frame. The kernel leaves kernelRoom and wire.Headroom free before it.
const (
	chunkSize  = 4096 // a page, the longest that the kernel allows
	kernelRoom = 256  // XDP_PACKET_HEADROOM
	maxFrame   = chunkSize - kernelRoom - wire.Headroom
)

// MaxMTU is the longest IP packet that fits a chunk, in bytes, behind an Ethernet header and two tags.
const MaxMTU = maxFrame - 22

// use says who has a chunk.
type use uint16

const (
	idle   use = iota // nobody
	driver            // the kernel, to receive into
	sent              // the kernel, to send
	lent              // and above: our caller, until the next Recv of the device whose number is added
)

// memory is what all devices of an Interfaces share: chunks, and who has them. One goroutine uses it at a time.
type memory struct {
	bytes []byte // of the Go heap, so that frames lent before a Close stay readable
	uses  []use
	free  []uint32 // chunks that are idle
}

func newMemory(chunks int) *memory {
	raw := make([]byte, (chunks+1)*chunkSize)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(raw)))) & (chunkSize - 1)
	m := &memory{bytes: raw[skip : skip+chunks*chunkSize], uses: make([]use, chunks), free: make([]uint32, 0, chunks)}
	for i := range chunks {
		m.free = append(m.free, uint32(chunks-1-i))
	}
	return m
}

// get takes an idle chunk.
func (m *memory) get(u use) (n uint32, ok bool) {
	if len(m.free) == 0 {
		return 0, false
	}
	n = m.free[len(m.free)-1]
	m.free = m.free[:len(m.free)-1]
	m.uses[n] = u
	return n, true
}

// put gives a chunk back.
func (m *memory) put(n uint32) {
	m.uses[n] = idle
	m.free = append(m.free, n)
}

// chunk returns the bytes of a chunk.
func (m *memory) chunk(n uint32) []byte {
	at := int(n) * chunkSize
	return m.bytes[at : at+chunkSize : at+chunkSize]
}

// find returns the chunk whose bytes a buffer is.
func (m *memory) find(buf []byte) (n uint32, ok bool) {
	if len(buf) != chunkSize {
		return 0, false
	}
	at := uintptr(unsafe.Pointer(unsafe.SliceData(buf))) - uintptr(unsafe.Pointer(unsafe.SliceData(m.bytes)))
	return uint32(at / chunkSize), at < uintptr(len(m.bytes)) && at%chunkSize == 0
}
