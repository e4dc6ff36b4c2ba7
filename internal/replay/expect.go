package replay

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"naru/internal/link/pcapfile"
)

// The files of a folder of expectations.
const (
	GoldenFrames   = "frames.pcapng"
	GoldenFlows    = "flows.jsonl"
	GoldenCounters = "counters.json"
)

// CompareFrames compares two captures packet by packet and returns the first difference in words, empty if there is none:
// "packet 7: tcp.seq 0x51aa02c1, expected 0x51aa02c0 (byte 38, bit 0)". Bit 0 is the lowest of a byte.
func CompareFrames(got, want io.Reader) (string, error) {
	g, err := pcapfile.NewReader(got)
	if err != nil {
		return "", err
	}
	w, err := pcapfile.NewReader(want)
	if err != nil {
		return "", fmt.Errorf("expected: %w", err)
	}
	for n := 1; ; n++ {
		var a, b pcapfile.Packet
		errG, errW := g.Next(&a), w.Next(&b)
		if bad := firstError(errG, errW); bad != nil {
			return "", bad
		}
		switch {
		case errG == io.EOF && errW == io.EOF:
			return compareInterfaces(g.Interfaces(), w.Interfaces()), nil
		case errG == io.EOF:
			return fmt.Sprintf("packet %d: missing", n), nil
		case errW == io.EOF:
			return fmt.Sprintf("packet %d: not expected, the expectation has %d packets", n, n-1), nil
		}
		if d := comparePackets(&a, &b); d != "" {
			return fmt.Sprintf("packet %d: %s", n, d), nil
		}
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil && err != io.EOF {
			return err
		}
	}
	return nil
}

func compareInterfaces(got, want []pcapfile.Interface) string {
	for i := range max(len(got), len(want)) {
		var a, b string
		if i < len(got) {
			a = got[i].Name
		}
		if i < len(want) {
			b = want[i].Name
		}
		if a != b {
			return fmt.Sprintf("interface %d: %q, expected %q", i, a, b)
		}
	}
	return ""
}

func comparePackets(a, b *pcapfile.Packet) string {
	switch {
	case a.Interface != b.Interface:
		return fmt.Sprintf("on interface %d, expected %d", a.Interface, b.Interface)
	case a.Time != b.Time:
		return fmt.Sprintf("at %d ns, expected %d", a.Time, b.Time)
	}
	for i := range min(len(a.Data), len(b.Data)) {
		if diff := a.Data[i] ^ b.Data[i]; diff != 0 {
			bit := 0
			for diff>>bit&1 == 0 {
				bit++
			}
			f := fieldAt(b.Data, i)
			return fmt.Sprintf("%s 0x%x, expected 0x%x (byte %d, bit %d)", f.name, f.of(a.Data), f.of(b.Data), i, bit)
		}
	}
	switch {
	case len(a.Data) != len(b.Data):
		return fmt.Sprintf("%d bytes, expected %d", len(a.Data), len(b.Data))
	case a.Length != b.Length:
		return fmt.Sprintf("%d bytes on the wire, expected %d", a.Length, b.Length)
	case !bytes.Equal(a.Comment, b.Comment):
		return fmt.Sprintf("comment %q, expected %q", a.Comment, b.Comment)
	}
	return ""
}

// CompareFlows compares two flow logs line by line and returns the first difference in words.
func CompareFlows(got, want io.Reader) (string, error) {
	g, w := bufio.NewScanner(got), bufio.NewScanner(want)
	for n := 1; ; n++ {
		moreG, moreW := g.Scan(), w.Scan()
		if err := errors.Join(g.Err(), w.Err()); err != nil {
			return "", err
		}
		switch {
		case !moreG && !moreW:
			return "", nil
		case !moreG:
			return fmt.Sprintf("line %d: missing", n), nil
		case !moreW:
			return fmt.Sprintf("line %d: not expected, the expectation has %d lines", n, n-1), nil
		case bytes.Equal(g.Bytes(), w.Bytes()):
			continue
		}
		d, err := compareJSON(g.Bytes(), w.Bytes())
		if d != "" || err != nil {
			return fmt.Sprintf("line %d: %s", n, d), err
		}
	}
}

// CompareCounters compares two results and returns the first difference in words.
func CompareCounters(got, want io.Reader) (string, error) {
	a, err := io.ReadAll(got)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(want)
	if err != nil {
		return "", err
	}
	return compareJSON(a, b)
}

// compareJSON names the first value that differs, by its path, in the order of the expectation.
func compareJSON(got, want []byte) (string, error) {
	a, err := leaves(got)
	if err != nil {
		return "", err
	}
	b, err := leaves(want)
	if err != nil {
		return "", fmt.Errorf("expected: %w", err)
	}
	have := map[string]string{}
	for _, l := range a {
		have[l.path] = l.value
	}
	wanted := map[string]bool{}
	for _, l := range b {
		wanted[l.path] = true
		if v, there := have[l.path]; !there {
			return fmt.Sprintf("%s is missing, expected %s", l.path, l.value), nil
		} else if v != l.value {
			return fmt.Sprintf("%s %s, expected %s", l.path, v, l.value), nil
		}
	}
	for _, l := range a {
		if !wanted[l.path] {
			return fmt.Sprintf("%s %s, not expected", l.path, l.value), nil
		}
	}
	return "", nil
}

// leaf is one value of a JSON document.
type leaf struct{ path, value string }

// leaves returns the values of a document in its order. Elements of a list have their name, or their place, in the path.
func leaves(doc []byte) (out []leaf, err error) {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	if err := walk(d, "", &out); err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	return out, nil
}

func walk(d *json.Decoder, path string, out *[]leaf) error {
	tok, err := d.Token()
	if err != nil {
		return err
	}
	delim, nested := tok.(json.Delim)
	if !nested {
		b, err := json.Marshal(tok)
		*out = append(*out, leaf{path, string(b)})
		return err
	}
	for i := 0; d.More(); i++ {
		at := fmt.Sprintf("%s[%d]", path, i)
		if delim == '{' {
			key, err := d.Token()
			if err != nil {
				return err
			}
			at = fmt.Sprint(key)
			if path != "" {
				at = path + "." + at
			}
		}
		if err := walk(d, at, out); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}
