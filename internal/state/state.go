// Package state puts plain values into bytes and takes them out again: what a run of the engine hands on to the next one.
//
// Contract: the same code writes and reads. A Coder that writes appends each value that it is shown; one that reads fills
// the same values, in the same order. A function that is written once so cannot read anything else than it wrote. Reading
// never panics and never allocates by a number that the bytes claim: the first value that does not fit makes the Coder
// fail, with the reason, and all later ones zero. Numbers are of variable length, little end first, so that zeros cost a
// byte. What is written depends on the values alone.
//
// It knows no files, versions or checksums, and nothing about what the values mean: whoever reads checks them.
package state

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Coder writes values, or reads them.
type Coder struct {
	buf     []byte
	at      int
	reading bool
	section string
	failed  string
}

// NewWriter returns a Coder that writes.
func NewWriter() *Coder { return &Coder{} }

// NewReader returns a Coder that reads what another one has written.
func NewReader(b []byte) *Coder { return &Coder{buf: b, reading: true} }

// Reading reports whether the values are filled in rather than written down.
func (c *Coder) Reading() bool { return c.reading }

// Bytes returns what was written.
func (c *Coder) Bytes() []byte { return c.buf }

// OK reports whether all values so far were fit to be read.
func (c *Coder) OK() bool { return c.failed == "" }

// Fail says that a value does not fit, unless an earlier one did not either. why names the value.
func (c *Coder) Fail(why string) {
	if c.failed == "" {
		c.failed, c.at = why, len(c.buf)
	}
}

// Check fails unless what was read fits.
func (c *Coder) Check(fits bool, why string) {
	if !fits {
		c.Fail(why)
	}
}

// Err returns what did not fit, with the section that it is in, or nil. At the end of reading there must be nothing left.
func (c *Coder) Err() error {
	switch {
	case c.failed != "":
		return fmt.Errorf("state: %s: %s", c.section, c.failed)
	case c.reading && c.at != len(c.buf):
		return errors.New("state: there is more than was expected")
	}
	return nil
}

// Section begins a part with a name of its own, which errors tell.
func (c *Coder) Section(name string) {
	was := name
	c.Text(&was, len(name))
	if c.section = name; was != name {
		c.Fail("it does not begin here")
	}
}

func (c *Coder) uvarint(v uint64) uint64 {
	if !c.reading {
		c.buf = binary.AppendUvarint(c.buf, v)
		return v
	}
	v, n := binary.Uvarint(c.buf[c.at:])
	if n <= 0 {
		c.Fail("it ends too early")
		return 0
	}
	c.at += n
	return v
}

// Integer is any type of whole numbers.
type Integer interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// Num writes or reads a number of any type.
func Num[T Integer](c *Coder, p *T) {
	v := c.uvarint(uint64(*p))
	if c.reading {
		if *p = T(v); uint64(*p) != v {
			*p = 0
			c.Fail("a number is too large")
		}
	}
}

// Nums writes or reads numbers, as many as there are.
func Nums[T Integer](c *Coder, list []T) {
	for i := range list {
		Num(c, &list[i])
	}
}

// All writes or reads several numbers of one type.
func All[T Integer](c *Coder, ps ...*T) {
	for _, p := range ps {
		Num(c, p)
	}
}

// Same writes a number, or reads one that must be the same; what says which.
func Same[T Integer](c *Coder, v T, what string) {
	was := v
	if Num(c, &was); was != v {
		c.Fail(what + " is another one")
	}
}

// Bool writes or reads a truth.
func (c *Coder) Bool(p *bool) {
	var v uint8
	if *p {
		v = 1
	}
	Num(c, &v)
	c.Check(v <= 1, "neither yes nor no")
	if c.reading {
		*p = v == 1
	}
}

// Count writes a number of elements, or reads one that is from 0 to most; of bytes that cannot be that many elements of at
// least a byte it fails.
func (c *Coder) Count(n, most int) int {
	Num(c, &n)
	if c.reading && (n < 0 || n > most || n > len(c.buf)-c.at) {
		c.Fail("there are too many")
		return 0
	}
	return n
}

// Fixed writes or reads bytes, as many as there are.
func (c *Coder) Fixed(b []byte) {
	switch {
	case !c.reading:
		c.buf = append(c.buf, b...)
	case len(b) > len(c.buf)-c.at:
		c.Fail("it ends too early")
		clear(b)
	default:
		c.at += copy(b, c.buf[c.at:])
	}
}

// Blob writes or reads at most so many bytes. What is read is a copy; of none it is nil.
func (c *Coder) Blob(p *[]byte, most int) {
	n := c.Count(len(*p), most)
	if c.reading {
		*p = nil
		if n > 0 {
			*p = make([]byte, n)
		}
	}
	c.Fixed(*p)
}

// Text writes or reads a text of at most so many bytes.
func (c *Coder) Text(p *string, most int) {
	b := []byte(*p)
	c.Blob(&b, most)
	if c.reading {
		*p = string(b)
	}
}
