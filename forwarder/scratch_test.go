package forwarder_test

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"reflect"
	"slices"
	"testing"
	"time"
	"unsafe"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
	"naru/sched"
)

var seed = maphash.MakeSeed()

// fingerprint is a hash of everything that can be reached from a value, unexported fields too.
func fingerprint(v any) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	hashValue(&h, reflect.ValueOf(v), map[uintptr]bool{})
	return h.Sum64()
}

func hashValue(h *maphash.Hash, v reflect.Value, seen map[uintptr]bool) {
	if v.CanAddr() && plain(v.Type()) {
		h.Write(unsafe.Slice((*byte)(v.Addr().UnsafePointer()), int(v.Type().Size())))
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			h.WriteByte(0)
			return
		}
		if v.Kind() == reflect.Pointer {
			if seen[v.Pointer()] {
				return
			}
			seen[v.Pointer()] = true
		}
		hashValue(h, v.Elem(), seen)
	case reflect.Struct:
		for i := range v.NumField() {
			hashValue(h, v.Field(i), seen)
		}
	case reflect.Slice, reflect.Array:
		fmt.Fprint(h, v.Len(), ";")
		if v.Kind() == reflect.Slice && plain(v.Type().Elem()) {
			h.Write(unsafe.Slice((*byte)(v.UnsafePointer()), v.Len()*int(v.Type().Elem().Size())))
			return
		}
		for i := range v.Len() {
			hashValue(h, v.Index(i), seen)
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return bytes.Compare(fmt.Append(nil, a), fmt.Append(nil, b)) })
		for _, k := range keys {
			fmt.Fprint(h, k)
			hashValue(h, v.MapIndex(k), seen)
		}
	case reflect.Func, reflect.UnsafePointer, reflect.Chan:
	default:
		fmt.Fprint(h, v, ";")
	}
}

// plain reports whether a type's memory is all that there is to it.
func plain(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			if !plain(t.Field(i).Type) {
				return false
			}
		}
		return true
	case reflect.Array:
		return plain(t.Elem())
	}
	return t.Kind() >= reflect.Bool && t.Kind() <= reflect.Float64
}

// unlike are the reasons that a scratch engine does not foresee: it has no fragments under way and no other workers.
var unlike = map[wire.Reason]bool{wire.FragmentOverlap: true, wire.FragmentFlood: true, wire.Fragment: true,
	wire.HandoverFull: true}

// TestAskingAScratchEngineChangesNothing asks about every packet that TestEveryReasonCanBeProvoked has, and about those of
// connections, before the live engine gets them: all that can be reached from the live engine stays as it was, and the
// answer is what the live engine then does.
func TestAskingAScratchEngineChangesNothing(t *testing.T) {
	for reason, how := range provoke {
		if how.packet == nil {
			continue
		}
		t.Run(reason.String(), func(t *testing.T) {
			cfg := config()
			if how.config != nil {
				how.config(&cfg)
			}
			r := newRigSized(t, cfg, 64)
			if how.before != nil {
				how.before(r)
			}
			r.foreseen(how.leg, how.packet(t, r), !unlike[reason])
		})
	}
	for _, m := range modeCases() {
		t.Run(m.name, func(t *testing.T) {
			r := newRig(t, m.config)
			for _, flags := range []string{"S", "A", "PA", "FA", "R", "S"} {
				f := synFrame()
				f.TCP = flags
				r.foreseen(0, f.Packet(t), true)
			}
			for port := range 5 {
				r.foreseen(0, fromClient(wiretest.Frame{Src: fmt.Sprint(client, ":", 1000+port), Dst: vip + ":80", TCP: "S"}).Packet(t), true)
			}
		})
	}
}

func modeCases() []struct {
	name   string
	config forwarder.Config
} {
	return []struct {
		name   string
		config forwarder.Config
	}{
		{"mode fullnat", config()},
		{"affinity and limits", sticky()},
		{"mode nat", inMode(forwarder.NAT, forwarder.L3DSROptions{})},
		{"mode l2dsr", inMode(forwarder.L2DSR, forwarder.L3DSROptions{})},
		{"mode ipip", inMode(forwarder.L3DSR, byIPIP)},
		{"mode gue", inMode(forwarder.L3DSR, byGUE)},
	}
}

// sticky is full NAT with schedulers and memories that have a state.
func sticky() forwarder.Config {
	cfg := config()
	for i := range cfg.Services {
		s := &cfg.Services[i]
		s.Scheduler, s.MaxConnections = sched.WRR, 5
		s.Affinity.Timeout, s.Affinity.Prefix4, s.Affinity.Prefix6 = time.Minute, 32, 128
		for b := range s.Backends {
			s.Backends[b].Weight, s.Backends[b].MaxConnections = uint32(b+1), 4
		}
	}
	return cfg
}

// foreseen asks about a packet and then puts it.
func (r *rig) foreseen(leg int, p wire.Packet, alike bool) {
	r.t.Helper()
	r.eng.Process(r.now, nil, r.out, nil) // the live engine has seen the time
	r.out.Reset()
	before := fingerprint(r.eng)
	var verdict wire.Verdict
	var reason wire.Reason
	var sent [][]byte
	service, backend := "", ""
	frame := bytes.Clone(p.Bytes())
	for range 2 {
		s, err := forwarder.NewScratch(forwarder.Options{Seed: forwarder.Seed{1}, Workers: 1, Neighbors: 256}, r.cfg)
		if err != nil {
			r.t.Fatal(err)
		}
		s.Fill(r.eng, frame, service, backend)
		s.Ask(p, leg, func(rec *forwarder.Record) {
			verdict, reason, service = rec.Verdict, rec.Reason, rec.Service
			for _, c := range rec.Candidates {
				if c.Chosen {
					backend = c.Name
				}
			}
			sent = nil
			for _, f := range rec.Sent {
				sent = append(sent, bytes.Clone(f.Bytes()))
			}
		})
		if backend == "" {
			break
		}
	}
	if after := fingerprint(r.eng); after != before {
		r.t.Fatalf("the live engine has changed: %x, was %x", after, before)
	}
	if !bytes.Equal(frame, p.Bytes()) {
		r.t.Fatal("the frame that was asked about has changed")
	}
	v, why, out := r.put(leg, p)
	if fingerprint(r.eng) == before {
		r.t.Fatal("the fingerprint does not show that the live engine got a packet")
	}
	if !alike {
		return
	}
	if v != verdict || why != reason {
		r.t.Errorf("%v %v was foreseen, it is %v %v", verdict, reason, v, why)
	}
	for i, b := range sent {
		if len(out) < len(sent) || !bytes.Equal(out[i].bytes, b) {
			r.t.Errorf("frame %d of %d: %x was foreseen, %d are sent", i, len(sent), b, len(out))
			if len(out) > i {
				r.t.Errorf("it is %x", out[i].bytes)
			}
			break
		}
	}
}
