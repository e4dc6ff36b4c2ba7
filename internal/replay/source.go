package replay

import (
	"errors"
	"fmt"
	"io"

	"naru/internal/link/pcapfile"
)

// Source reads captures side by side, in the order of their packets' times; packets of one file keep their order, and of
// equal times the file that was named first is first.
type Source struct {
	inputs   []*input
	current  *input
	warnings []string
}

// Input is one capture.
type Input struct {
	Name   string
	Stream io.Reader
}

type input struct {
	name string
	r    *pcapfile.Reader
	p    pcapfile.Packet
}

// NewSource reads the beginning of every capture.
func NewSource(inputs ...Input) (*Source, error) {
	s := &Source{}
	for _, in := range inputs {
		r, err := pcapfile.NewReader(in.Stream)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", in.Name, err)
		}
		i := &input{name: in.Name, r: r}
		more, err := s.load(i)
		if err != nil {
			return nil, err
		}
		if more {
			s.inputs = append(s.inputs, i)
		}
	}
	return s, nil
}

// Warnings returns what was wrong with captures that could be read all the same.
func (s *Source) Warnings() []string { return s.warnings }

// load reads the next packet of an input; a capture that is cut short is one that ends, with a warning.
func (s *Source) load(i *input) (more bool, err error) {
	err = i.r.Next(&i.p)
	switch {
	case err == nil:
		return true, nil
	case err == io.EOF:
		return false, nil
	case errors.Is(err, pcapfile.ErrTruncated):
		s.warnings = append(s.warnings, fmt.Sprintf("%s: the file ends in the middle of a packet, at byte %d", i.name,
			i.r.Offset()))
		return false, nil
	}
	return false, fmt.Errorf("%s: %w", i.name, err)
}

// Next returns the next packet, valid until the call after, and the name of its interface. The error is io.EOF at the end.
func (s *Source) Next() (p *pcapfile.Packet, ifname string, err error) {
	if s.current != nil {
		if err := s.renew(); err != nil {
			return nil, "", err
		}
	}
	if len(s.inputs) == 0 {
		return nil, "", io.EOF
	}
	s.current = s.inputs[0]
	for _, i := range s.inputs[1:] {
		if i.p.Time < s.current.p.Time {
			s.current = i
		}
	}
	p = &s.current.p
	return p, s.current.r.Interfaces()[p.Interface].Name, nil
}

// renew replaces the packet that was handed out.
func (s *Source) renew() error {
	more, err := s.load(s.current)
	if err != nil {
		return err
	}
	if !more {
		for k, i := range s.inputs {
			if i == s.current {
				s.inputs = append(s.inputs[:k], s.inputs[k+1:]...)
				break
			}
		}
	}
	return nil
}
