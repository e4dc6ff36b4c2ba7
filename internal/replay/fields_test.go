package replay_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"naru/internal/replay"
	"naru/internal/wire"
)

// fields finds what a run consists of: the fields of all structs that can be reached from it, but for those that elsewhere
// speaks of. A field is named by the package, type and name that declare it.
type fields struct {
	seen   map[unsafe.Pointer]bool
	types  map[string]string   // of each field that is carried
	places map[string][]change // where a value of it is now
	follow map[string][]string // what follows from others, by field
	used   map[string]bool     // entries of elsewhere
	faults []string

	values  int
	reached map[string]bool // fields that have a value, or something in them has
}

// change alters a value and returns what brings it back.
type change func() (undo func())

func lookAt(r *replay.Replay) *fields {
	f := &fields{seen: map[unsafe.Pointer]bool{}, types: map[string]string{}, places: map[string][]change{},
		follow: map[string][]string{}, used: map[string]bool{}, reached: map[string]bool{}}
	f.walk(reflect.ValueOf(r), "")
	return f
}

// open makes a value settable, even of a field that is not exported.
func open(v reflect.Value) reflect.Value {
	if v.CanAddr() {
		return reflect.NewAt(v.Type(), v.Addr().UnsafePointer()).Elem()
	}
	return v
}

func (f *fields) walk(v reflect.Value, name string) {
	v = open(v)
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		if f.seen[v.UnsafePointer()] {
			f.values++ // it has a value, which is looked at where it was seen first
			return
		}
		f.seen[v.UnsafePointer()] = true
		f.walk(v.Elem(), name)
	case reflect.Interface:
		if !v.IsNil() {
			f.walk(v.Elem(), name)
		}
	case reflect.Struct:
		f.structure(v, name)
	case reflect.Array, reflect.Slice:
		f.elements(v, name)
	case reflect.Map:
		f.mapping(v, name)
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
		f.faults = append(f.faults, name+" cannot be carried")
	default:
		f.place(name, func() func() {
			old := reflect.New(v.Type()).Elem()
			old.Set(v)
			v.Set(other(v))
			return func() { v.Set(old) }
		})
	}
}

func (f *fields) place(name string, c change) {
	f.places[name] = append(f.places[name], c)
	f.values++
}

// other is another value than v.
func other(v reflect.Value) reflect.Value {
	o := reflect.New(v.Type()).Elem()
	switch {
	case v.Kind() == reflect.Bool:
		o.SetBool(!v.Bool())
	case v.CanInt():
		o.SetInt(v.Int() ^ 1)
	case v.CanUint():
		o.SetUint(v.Uint() ^ 1)
	case v.Kind() == reflect.String:
		o.SetString(v.String() + "?")
	case v.Type() == reflect.TypeFor[netip.Prefix]():
		o.Set(reflect.ValueOf(netip.MustParsePrefix("192.0.2.0/24")))
	}
	return o
}

func (f *fields) structure(v reflect.Value, name string) {
	switch t := v.Type(); {
	case t == reflect.TypeFor[netip.Prefix]():
		f.place(name, func() func() {
			old := v.Interface()
			v.Set(other(v))
			return func() { v.Set(reflect.ValueOf(old)) }
		})
	case t.PkgPath() == "sync/atomic":
		f.walk(v.FieldByName("v"), name)
	case unusedPlace(v):
	case t == reflect.TypeFor[wire.Frame]():
		f.frame(v)
	default:
		for i := range t.NumField() {
			f.field(v.Field(i), t.String()+"."+t.Field(i).Name)
		}
	}
}

// field looks at a field that is not elsewhere.
func (f *fields) field(v reflect.Value, key string) {
	if strings.HasSuffix(key, "._") {
		return
	}
	if why, is := elsewhere[key]; is {
		f.used[key] = true
		f.values++
		if strings.HasPrefix(why, "follows") {
			f.follow[key] = append(f.follow[key], render(v))
		}
		return
	}
	f.types[key] = v.Type().String()
	before := f.values
	if f.walk(v, key); f.values > before {
		f.reached[key] = true
	}
}

// frame looks at a frame: of its buffer, at the last byte.
func (f *fields) frame(v reflect.Value) {
	at := v.FieldByName("Off").Int() + v.FieldByName("Len").Int() - 1
	f.walk(v.FieldByName("Buf").Index(int(at)), "wire.Frame.Buf")
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; name != "Buf" {
			f.field(v.Field(i), "wire.Frame."+name)
		}
	}
}

// unusedPlace reports whether a place of a table is free, or a client's that is forgotten.
func unusedPlace(v reflect.Value) bool {
	switch v.Type().String() {
	case "conntrack.Conn":
		return v.FieldByName("State").Uint() == 0
	case "frag.datagram":
		return v.FieldByName("key").FieldByName("src").IsZero()
	case "frag.cover":
		return v.FieldByName("came").IsZero()
	case "affinity.entry":
		return v.FieldByName("value").IsZero()
	case "wire.Packet":
		return v.FieldByName("Frame").FieldByName("Len").IsZero()
	}
	return false
}

// elements looks at a list. Of an array of up to 64 numbers each has a name; of bytes and of longer ones the first stands
// for all.
func (f *fields) elements(v reflect.Value, name string) {
	for i := range v.Len() {
		element := name
		switch v.Index(i).Kind() {
		case reflect.Uint8:
			if i > 0 {
				return
			}
		case reflect.Struct, reflect.Pointer, reflect.Slice, reflect.Interface:
		default:
			if v.Kind() == reflect.Array && v.Len() > 64 && i > 0 {
				return
			} else if v.Kind() == reflect.Array && v.Len() <= 64 {
				element = fmt.Sprintf("%s[%d]", name, i)
			}
		}
		f.walk(v.Index(i), element)
	}
}

// mapping looks at what is in a map, and that it is there.
func (f *fields) mapping(m reflect.Value, name string) {
	for _, key := range m.MapKeys() {
		value := m.MapIndex(key)
		set := func(x reflect.Value) func() {
			m.SetMapIndex(key, x)
			return func() { m.SetMapIndex(key, value) }
		}
		f.place(name+" key", func() func() { return set(reflect.Value{}) })
		switch value.Kind() {
		case reflect.Pointer, reflect.Slice:
			f.walk(value, name)
		case reflect.Bool: // a set: what is not there is no
		default:
			far := reflect.ValueOf(uint64(1 << 16)).Convert(value.Type()) // what another key has is another value
			f.place(name, func() func() { return set(far) })
		}
	}
}

// render tells values apart that follow from others: of a map the keys and how much belongs to each, of bytes how many.
func render(v reflect.Value) string {
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
		return fmt.Sprint(v.Len())
	}
	if v.Kind() != reflect.Map {
		return fmt.Sprint(v)
	}
	var lines []string
	for _, key := range v.MapKeys() {
		n := 1
		if value := v.MapIndex(key); value.Kind() == reflect.Slice {
			n = value.Len()
		}
		lines = append(lines, fmt.Sprint(key, n))
	}
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

// coverage is what all looks together have seen.
type coverage struct {
	t       *testing.T
	opt     replay.Options
	types   map[string]string
	used    map[string]bool
	reached map[string]bool
	carried map[string]bool // a change of the field shows in the state, and comes back from it
	missing map[string]bool // one did not show, so far
}

// values are the values of a state file.
func values(file []byte) []byte {
	_, v, _ := bytes.Cut(file, []byte{'\n'})
	return v[:len(v)-sha256.Size]
}

// resume makes a run that goes on from a state.
func (c *coverage) resume(file []byte) (*replay.Replay, error) {
	opt := c.opt
	opt.StateIn = bytes.NewReader(file)
	return replay.New(opt)
}

// state is the state of a run, or nil if it cannot be written.
func state(r *replay.Replay) (file []byte) {
	defer func() {
		if recover() != nil {
			file = nil // what was changed does not fit the rest
		}
	}()
	file, err := r.State()
	if err != nil {
		return nil
	}
	return file
}

// look tries every field that has not been seen to be carried: of a run that has just gone on, where the places of paths
// are what they will be when another one goes on from it.
func (c *coverage) look(left *replay.Replay) {
	t := c.t
	t.Helper()
	r, err := c.resume(state(left))
	if err != nil {
		t.Fatalf("a state that was just written: %v", err)
	}
	now := state(r)
	again, err := c.resume(now)
	if err != nil {
		t.Fatalf("a state that was just written: %v", err)
	}
	if !bytes.Equal(state(again), now) {
		t.Error("a run that goes on has another state than the one it goes on from")
	}
	before, f := lookAt(left), lookAt(r)
	for _, fault := range f.faults {
		t.Error(fault)
	}
	for key, list := range f.follow {
		was := before.follow[key]
		for _, v := range list { // what nothing uses any more may have gone
			if i := slices.Index(was, v); i < 0 {
				t.Errorf("%s (%s) is %.300q after going on, was none of %.300q", key, elsewhere[key], v, was)
			} else {
				was = slices.Delete(was, i, i+1)
			}
		}
	}
	maps.Copy(c.types, f.types)
	maps.Copy(c.used, f.used)
	maps.Copy(c.reached, f.reached)
	for name, places := range f.places {
		c.try(r, now, name, places)
	}
	if !bytes.Equal(state(r), now) {
		t.Error("what was changed did not come back")
	}
}

// try changes a field in some of its places.
func (c *coverage) try(r *replay.Replay, now []byte, name string, places []change) {
	const most = 12
	for i := 0; i < len(places) && !c.carried[name]; i += max(1, len(places)/most) {
		c.missing[name] = true
		undo := places[i]()
		changed := state(r)
		undo()
		if changed == nil || bytes.Equal(changed, now) {
			continue
		}
		c.carried[name] = true
		delete(c.missing, name)
		if naming := strings.HasSuffix(name, " key") || strings.HasPrefix(name, "forwarder.pathKey.") ||
			strings.HasPrefix(name, "forwarder.L3DSROptions."); naming {
			return // what the configuration names comes back by itself
		}
		again, err := c.resume(seal(changed, values(changed)))
		if err == nil && !bytes.Equal(values(state(again)), values(changed)) {
			c.t.Errorf("%s is written, and not read as it was", name)
		}
	}
}

// TestEveryFieldOfARunIsCarried changes every field of a run, one at a time: the state that it would leave off with must
// become another one, from which a run can go on that has the change. A field that is not carried must be in elsewhere.
func TestEveryFieldOfARunIsCarried(t *testing.T) {
	c := coverage{t: t, types: map[string]string{}, used: map[string]bool{}, reached: map[string]bool{},
		carried: map[string]bool{}, missing: map[string]bool{}}
	random := rand.New(rand.NewPCG(9, 10))
	for i, scheduler := range []string{"rr", "twos", "wlc", "mh"} {
		text := strings.Replace(busy, "SCHEDULER", scheduler, 1)
		after, events := strings.Replace(later(), "SCHEDULER", scheduler, 1), busyScript
		if scheduler == "mh" { // the tunnels go, but for their connections
			after, events = text[:strings.Index(text, "  - name: dns")], "5s reload later\n12s reload busy\n16s reload later"
		}
		c.opt = replay.Options{Config: load(t, text), Script: script(t, events), Seed: 7, Table: 64 << (i % 2 * 4),
			Flows: io.Discard, Load: loader(t, map[string]string{"busy": text, "later": after})}
		if i%2 == 0 {
			c.opt.Backends, c.opt.Sim = replay.Simulated, replay.Simulation{Reply: 9000, Delay: 7 * ms, Loss: 0.2, Reset: 0.05}
		}
		if scheduler == "wlc" {
			c.opt.Sim.Reply = -1 // what was recorded may come before the handshake is over
		}
		c.during(traffic(t, random, 700))
	}
	for _, name := range slices.Sorted(maps.Keys(c.missing)) {
		t.Errorf("%s is not carried: carry it, or say in elsewhere why it need not be", name)
	}
	for _, key := range slices.Sorted(maps.Keys(c.types)) {
		if !c.reached[key] {
			t.Errorf("%s never has a value here: let the traffic of the test bring one", key)
		}
	}
	for key := range elsewhere {
		if !c.used[key] {
			t.Errorf("elsewhere speaks of %s, which is no field", key)
		}
	}
	var lines []string
	for key, kind := range c.types {
		lines = append(lines, key+" "+kind)
	}
	slices.Sort(lines)
	sameLayout(t, lines)
}

const (
	layoutFile = "testdata/carried.txt" // the fields that are carried, and since which format
	storedFile = "testdata/golden.state"
)

// renew is what to do when what is carried has changed.
func renew() string {
	return fmt.Sprintf("older states cannot be read any more: set stateFormat in state.go to %d, then "+
		"NARU_REGEN=1 go test ./internal/replay -run 'EveryField|Stored'", replay.StateFormat+1)
}

// sameLayout compares what is carried with what was when the format got its number.
func sameLayout(t *testing.T, lines []string) {
	t.Helper()
	file, _ := os.ReadFile(layoutFile) // none is an empty one
	format, text, _ := strings.Cut(strings.TrimSuffix(string(file), "\n"), "\n")
	number, was := fmt.Sprintf("format %d", replay.StateFormat), strings.Split(text, "\n")
	if os.Getenv("NARU_REGEN") != "" && (number != format || slices.Equal(was, lines)) {
		if err := os.WriteFile(layoutFile, []byte(number+"\n"+strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, line := range lines {
		if !slices.Contains(was, line) {
			t.Errorf("%s is carried, and was not; %s", line, renew())
		}
	}
	for _, line := range was {
		if !slices.Contains(lines, line) {
			t.Errorf("%s was carried, and is not; %s", line, renew())
		}
	}
	if number != format {
		t.Errorf("%s is of %s, this is %s; NARU_REGEN=1 renews it", layoutFile, format, number)
	}
}

// TestAStoredStateCanBeGoneOnFrom reads a state that an earlier naru has written with the same format.
func TestAStoredStateCanBeGoneOnFrom(t *testing.T) {
	cfg, file := golden(t)
	opt := replay.Options{Config: cfg, Seed: 1, Table: 1024, Backends: replay.Simulated, Sim: lossy}
	now := left(t, opt, file)
	stored, _ := os.ReadFile(storedFile) // none is one of another format
	number := fmt.Appendf(nil, `"format":%d,`, replay.StateFormat)
	if os.Getenv("NARU_REGEN") != "" && !bytes.Contains(stored, number) {
		if err := os.WriteFile(storedFile, now, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Contains(stored, number) {
		t.Fatalf("%s is of another format; NARU_REGEN=1 renews it", storedFile)
	}
	opt.Flows = io.Discard
	opt.StateIn = bytes.NewReader(seal(now, values(stored))) // a configuration may have got new keys
	r, err := replay.New(opt)
	if err != nil {
		t.Fatalf("%v; %s", err, renew())
	}
	if !bytes.Equal(values(state(r)), values(stored)) {
		t.Errorf("the state that was read is another one; %s", renew())
	}
}

// during looks at a run at many instants.
func (c *coverage) during(file []byte) {
	r, err := replay.New(c.opt)
	if err != nil {
		c.t.Fatal(err)
	}
	src := source(c.t, file)
	for n := 0; ; n++ {
		p, ifname, err := src.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			c.t.Fatal(err)
		}
		if err := r.Packet(p, ifname); err != nil {
			c.t.Fatal(err)
		}
		if n%100 == 99 {
			c.look(r)
		}
	}
}
