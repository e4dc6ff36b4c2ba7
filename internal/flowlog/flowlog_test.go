package flowlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"naru/forwarder"
	"naru/internal/conntrack"
	"naru/internal/wire"
)

var zero = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// connection is one of full NAT, made 2 s after the beginning, that had its latest packet 1.5 s later.
func connection() *forwarder.Connection {
	addr := func(last byte) wire.Addr { return wire.Addr4([]byte{10, 0, 0, last}) }
	c := &forwarder.Connection{Service: "web", Backend: "b1", Mode: forwarder.FullNAT, Proto: wire.ProtoTCP, Client: addr(1),
		VIP: addr(2), Local: addr(3), Address: addr(4), ClientPort: 40000, VIPPort: 80, LocalPort: 1024, BackendPort: 8080,
		State: conntrack.TCPClosed, Start: 2e9, Latest: 35e8, At: 63e9, Packets: [2]uint64{4, 3}, Bytes: [2]uint64{400, 3000}}
	c.Flow = 0x1a2b3c4d
	return c
}

// target collects what is written, as long as it does not fail.
type target struct {
	mu    sync.Mutex
	text  bytes.Buffer
	fails error
	hangs chan struct{} // nil: not
}

func (s *target) sink() Sink {
	return Sink{func(lines []byte, ends []int) (int, error) {
		if s.hangs != nil {
			<-s.hangs
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.fails != nil && len(ends) > 0 {
			return 0, s.fails
		}
		s.text.Write(lines)
		return len(ends), nil
	}, func() error { return nil }}
}

func started(t *testing.T, sink Sink, opt Options) (l *Log, told func() (uint64, error)) {
	t.Helper()
	var mu sync.Mutex
	var lost uint64
	var last error
	opt.Zero, opt.Workers = zero, 2
	opt.Lost = func(n uint64, err error) {
		mu.Lock()
		defer mu.Unlock()
		lost, last = lost+n, err
	}
	l = Start(sink, opt)
	t.Cleanup(l.Close)
	return l, func() (uint64, error) {
		mu.Lock()
		defer mu.Unlock()
		return lost, last
	}
}

func TestALineForTheStartAndOneForTheEnd(t *testing.T) {
	s := &target{}
	l, told := started(t, s.sink(), Options{Rate: 100})
	c := connection()
	l.rings[0].put(c, false)
	c.Service = "changed since" // the ring has copied it
	l.rings[1].put(connection(), true)
	l.Close()
	lines := strings.Split(strings.TrimSuffix(s.text.String(), "\n"), "\n")
	tuples := `"flow":"f-1a2b3c4d","service":"web","backend":"b1","mode":"fullnat","protocol":"tcp","client":"10.0.0.1:40000",` +
		`"vip":"10.0.0.2:80","local":"10.0.0.3:1024","server":"10.0.0.4:8080"`
	want := []string{`{"time":"2026-01-02T03:05:08.000000Z","event":"start",` + tuples + `}`,
		`{"time":"2026-01-02T03:05:08.000000Z","event":"end",` + tuples + `,"duration":1.5,"state":"closed","ended":"closed",` +
			`"request_packets":4,"request_bytes":400,"reply_packets":3,"reply_bytes":3000}`}
	if len(lines) != 2 || lines[0] != want[0] || lines[1] != want[1] {
		t.Errorf("got\n%s\nwant\n%s", s.text.String(), strings.Join(want, "\n"))
	}
	if written, lost := l.Counts(); written != 2 || lost != 0 {
		t.Errorf("%d written, %d lost", written, lost)
	}
	if n, _ := told(); n != 0 {
		t.Errorf("told of %d lost lines", n)
	}
}

func TestTheRateAndTheRingBoundWhatIsWritten(t *testing.T) {
	s := &target{}
	l, told := started(t, s.sink(), Options{Rate: 10})
	for range 3 * ringEntries {
		l.rings[0].put(connection(), true)
	}
	l.Close()
	written, lost := l.Counts()
	if n, _ := told(); written < 10 || written > 100 || written+lost != 3*ringEntries || n != lost {
		t.Errorf("%d written, %d lost, told of %d", written, lost, n)
	}
	if n := uint64(strings.Count(s.text.String(), "\n")); n != written {
		t.Errorf("%d lines, %d are counted", n, written)
	}
}

func TestLinesThatCannotBeWrittenAreCounted(t *testing.T) {
	s := &target{fails: errors.New("the disk is full")}
	l, told := started(t, s.sink(), Options{Rate: 1000})
	for range 5 {
		l.rings[0].put(connection(), false)
	}
	l.Close()
	written, lost := l.Counts()
	if n, err := told(); written != 0 || lost != 5 || n != 5 || !errors.Is(err, s.fails) {
		t.Errorf("%d written, %d lost, told of %d and %v", written, lost, n, err)
	}
}

func TestAHangingSinkHoldsNobodyUp(t *testing.T) {
	s := &target{hangs: make(chan struct{})}
	defer close(s.hangs)
	l, _ := started(t, s.sink(), Options{Rate: 1000})
	for range 2 * ringEntries {
		l.rings[0].put(connection(), true) // must return
	}
	l.Close() // too
	if _, lost := l.Counts(); lost < ringEntries {
		t.Errorf("%d of %d are lost", lost, 2*ringEntries)
	}
}

func TestLeavingAConnectionAllocatesNothing(t *testing.T) {
	r := &ring{slots: make([]entry, 4)}
	c := connection()
	if n := testing.AllocsPerRun(100, func() { r.put(c, true); r.take(func(*entry) {}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTheFileIsMadeAnewWhenItWasRenamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flows.jsonl")
	if err := os.WriteFile(path, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sink, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l, told := started(t, sink, Options{Rate: 1000})
	l.rings[0].put(connection(), false)
	until(t, "the first line", func() bool { w, _ := l.Counts(); return w == 1 })
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	until(t, "a new file", func() bool { _, err := os.Stat(path); return err == nil })
	l.rings[0].put(connection(), true)
	l.Close()
	for name, want := range map[string]string{path + ".1": `"event":"start"`, path: `"event":"end"`} {
		text, err := os.ReadFile(name)
		if lines := bytes.Count(text, []byte(`"event"`)); err != nil || lines != 1 || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
	if text, _ := os.ReadFile(path + ".1"); !strings.HasPrefix(string(text), "before\n{") {
		t.Errorf("what was in the file is gone: %s", text)
	}
	if n, err := told(); n != 0 || err != nil {
		t.Errorf("told of %d lost lines, %v", n, err)
	}
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s in vain", what)
		}
	}
}

func TestAFullDiskLosesWholeLines(t *testing.T) {
	sink, err := OpenFile("/dev/full")
	if err != nil {
		t.Skip(err)
	}
	l, told := started(t, sink, Options{Rate: 1000})
	l.rings[0].put(connection(), false)
	l.Close()
	if _, lost := l.Counts(); lost != 1 {
		t.Errorf("%d lines are lost", lost)
	}
	if _, err := told(); err == nil {
		t.Error("nobody was told why")
	}
}

func TestAFileThatCannotBeMadeIsAnError(t *testing.T) {
	if _, err := OpenFile(filepath.Join(t.TempDir(), "absent", "flows.jsonl")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestSyslogGetsEachLine(t *testing.T) {
	sink, err := OpenSyslog()
	if err != nil {
		if !strings.HasPrefix(err.Error(), "flowlog: syslog: ") {
			t.Error(err)
		}
		t.Skip("this host has no syslog")
	}
	l, _ := started(t, sink, Options{Rate: 1000})
	l.rings[0].put(connection(), true)
	l.Close()
	if written, lost := l.Counts(); written != 1 || lost != 0 {
		t.Errorf("%d written, %d lost", written, lost)
	}
}

func TestEveryLineIsJSON(t *testing.T) {
	s := &target{}
	l, _ := started(t, s.sink(), Options{Rate: 1000})
	c := connection()
	c.Service, c.Backend, c.Proto, c.Mode = `"<>&`, "\n", wire.ProtoUDP, forwarder.L2DSR
	l.rings[0].put(c, true)
	l.Close()
	var got map[string]any
	if err := json.Unmarshal(s.text.Bytes(), &got); err != nil || got["service"] != c.Service || got["protocol"] != "udp" ||
		got["local"] != nil {
		t.Errorf("%v %v", got, err)
	}
}
