package pcapfilter

import "sync"

// Filter is a compiled expression.
type Filter struct {
	text string
	test test
	all  bool // it may ask about any byte
}

// headerBytes is what an expression without an offset of its own may ask about: Ethernet, VLAN tags, the longest IPv4
// header and the ports behind it.
const headerBytes = 14 + 16*tagLen + 60 + 20

// Bytes returns how many bytes of a frame Match must be given of a longer one; 0 means all.
func (f *Filter) Bytes() int {
	if f.all {
		return 0
	}
	return headerBytes
}

// String returns the expression.
func (f *Filter) String() string { return f.text }

// Match judges a frame, which begins with its Ethernet header and is so many bytes long, of which data may be a part. tci
// is the VLAN tag that the kernel took out of the bytes, 0 without one.
func (f *Filter) Match(data []byte, length int, tci uint16) bool {
	v := views.Get().(*view)
	*v = view{data: data, length: uint32(length), tci: tci}
	fits := f.test(v) && !v.short
	v.data = nil
	views.Put(v)
	return fits
}

// views are there to be used again: tests are values that the compiler cannot look into.
var views = sync.Pool{New: func() any { return new(view) }}

// view is a frame that is judged.
type view struct {
	data   []byte
	length uint32
	tci    uint16
	short  bool // something was asked about that it does not have
}

// test judges a frame, value takes a number from it.
type (
	test  func(*view) bool
	value func(*view) uint32
)

// load returns so many bytes as a number, 0 of a frame that is too short.
func (v *view) load(at, size uint32) (n uint32) {
	if uint64(at)+uint64(size) > uint64(len(v.data)) {
		v.short = true
		return 0
	}
	for _, b := range v.data[at : at+size] {
		n = n<<8 | uint32(b)
	}
	return n
}

const (
	typeAt  = 12 // of the EtherType of a frame without tags
	tagLen  = 4
	linkLen = 14
)

// shift is how far behind their places in a frame without tags things are, behind so many "vlan" of the expression.
func (v *view) shift(tags uint32) uint32 {
	if v.tci != 0 && tags > 0 {
		tags--
	}
	return tags * tagLen
}

func (v *view) etherType(tags uint32) uint32 { return v.load(typeAt+v.shift(tags), 2) }

// net loads from the network header.
func (v *view) net(tags, at, size uint32) uint32 { return v.load(linkLen+v.shift(tags)+at, size) }

// transport loads from behind an IPv4 header.
func (v *view) transport(tags, at, size uint32) uint32 {
	return v.net(tags, v.net(tags, 0, 1)&15*4+at, size)
}

func not(a test) test    { return func(v *view) bool { return !a(v) } }
func and(a, b test) test { return func(v *view) bool { return a(v) && b(v) } }
func or(a, b test) test  { return func(v *view) bool { return a(v) || b(v) } }

func constant(n uint32) value { return func(*view) uint32 { return n } }
