package neigh_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"naru/internal/neigh"
	"naru/internal/wire"
)

func addr(n uint32) wire.Addr { return wire.Addr4(binary.BigEndian.AppendUint32(nil, 0x0a000000+n)) }

func questions(t *neigh.Table, now wire.Time) (qs []neigh.Question) {
	for {
		q, ok := t.Due(now, 100)
		if !ok {
			return qs
		}
		qs = append(qs, q)
	}
}

func TestAskLearnAskAgain(t *testing.T) {
	tab := neigh.NewTable(8, 1)
	now := wire.Time(1e12)
	id := tab.Want(now, 1, addr(1))
	if mac, wait := tab.MAC(now, id); mac != nil || !wait {
		t.Fatal("a new neighbour has a MAC address")
	}
	if qs := questions(tab, now); len(qs) != 1 || qs[0].Leg != 1 || qs[0].Addr != addr(1) || qs[0].MAC != wire.Broadcast {
		t.Fatalf("questions %+v", qs)
	}
	if qs := questions(tab, now.Add(neigh.Retry-1)); len(qs) != 0 {
		t.Fatal("asked again too early")
	}
	if len(questions(tab, now.Add(neigh.Retry))) != 1 {
		t.Fatal("not asked again")
	}
	now = now.Add(neigh.Retry + 1)
	if tab.Learn(now, 1, addr(1), wire.MAC{2, 1}) != id || tab.Learn(now, 0, addr(1), wire.MAC{2, 9}) != neigh.None {
		t.Fatal("learned on the wrong leg, or not on the right one")
	}
	if mac, _ := tab.MAC(now, id); mac == nil || *mac != (wire.MAC{2, 1}) {
		t.Fatal("what was learned is not known")
	}
	if len(questions(tab, now.Add(10*time.Second))) != 0 {
		t.Fatal("asked although answered")
	}
	// In use and old: asked again at its own address, and used meanwhile.
	now = now.Add(neigh.Fresh + 1)
	if mac, _ := tab.MAC(now, id); mac == nil {
		t.Fatal("an old neighbour is not used")
	}
	if qs := questions(tab, now); len(qs) != 1 || qs[0].MAC != (wire.MAC{2, 1}) {
		t.Fatalf("questions %+v, want one to the neighbour itself", qs)
	}
	for range neigh.MaxTries {
		now = now.Add(neigh.Retry)
		questions(tab, now)
	}
	if mac, wait := tab.MAC(now, id); mac != nil || wait || !tab.Absent(id) {
		t.Error("a neighbour that does not answer is still used")
	}
	now = now.Add(neigh.Quiet)
	if _, wait := tab.MAC(now, id); !wait || len(questions(tab, now)) != 1 {
		t.Error("an absent neighbour is never asked again")
	}
}

func TestFixedNeighborsAreNeverAskedNorChanged(t *testing.T) {
	tab := neigh.NewTable(8, 1)
	tab.Set(0, 0, addr(1), wire.MAC{2, 7}, true)
	id := tab.Find(0, addr(1))
	tab.Learn(1, 0, addr(1), wire.MAC{2, 8})
	tab.Set(2, 0, addr(1), wire.MAC{2, 9}, false)
	now := wire.Time(time.Hour)
	if mac, _ := tab.MAC(now, id); *mac != (wire.MAC{2, 7}) || len(questions(tab, now)) != 0 {
		t.Error("a fixed neighbour was changed or asked for")
	}
}

func TestAFixedNeighborThatIsNoLongerConfiguredIsAskedAgain(t *testing.T) {
	tab := neigh.NewTable(8, 1)
	for n := range uint32(2) {
		tab.Set(0, 0, addr(n), wire.MAC{2, 7}, true)
	}
	now := wire.Time(time.Second)
	tab.Loosen(now)
	tab.Set(now, 0, addr(1), wire.MAC{2, 7}, true)
	for n := range uint32(2) {
		if mac, _ := tab.MAC(now, tab.Find(0, addr(n))); mac == nil || *mac != (wire.MAC{2, 7}) {
			t.Errorf("neighbour %d is lost while it is asked for", n)
		}
	}
	if qs := questions(tab, now); len(qs) != 1 || qs[0].Addr != addr(0) {
		t.Errorf("asked for %v, want the one that is no longer fixed", qs)
	}
	tab.Learn(now, 0, addr(0), wire.MAC{2, 8})
	if mac, _ := tab.MAC(now, tab.Find(0, addr(0))); *mac != (wire.MAC{2, 8}) {
		t.Error("its new MAC address is not learned")
	}
}

func TestAddressesThatDoNotAnswerKeepNobodyOut(t *testing.T) {
	tab := neigh.NewTable(16, 1)
	now := wire.Time(time.Hour)
	for n := range uint32(16) {
		tab.MAC(now, tab.Want(now, 0, addr(n)))
	}
	for range neigh.MaxTries + 1 {
		questions(tab, now)
		now = now.Add(neigh.Retry)
	}
	if tab.Want(now, 0, addr(99)) != neigh.None {
		t.Fatal("a neighbour that shall not be asked for again so soon was forgotten")
	}
	if now = now.Add(neigh.Quiet); tab.Want(now, 0, addr(99)) == neigh.None {
		t.Error("no place although nobody answers")
	}
}

func TestNobodyFillsTheTableFromOutside(t *testing.T) {
	tab := neigh.NewTable(8, 1)
	for n := range uint32(100) {
		if tab.Learn(0, 0, addr(n), wire.MAC{2}) != neigh.None {
			t.Fatal("an announcement that nobody wanted was noted")
		}
	}
	if tab.Len() != 0 {
		t.Error("the table is not empty")
	}
}

func TestAPlaceIsReusedWhenNobodyNeedsIt(t *testing.T) {
	tab := neigh.NewTable(4, 1)
	now := wire.Time(0)
	var ids []neigh.ID
	for n := range uint32(4) {
		ids = append(ids, tab.Want(now, 0, addr(n)))
		tab.Learn(now, 0, addr(n), wire.MAC{2, byte(n)})
	}
	if tab.Want(now, 0, addr(9)) != neigh.None {
		t.Fatal("a fifth neighbour in four places")
	}
	now = now.Add(59 * time.Second)
	tab.MAC(now, ids[2])
	gen := tab.Generation()
	now = now.Add(2 * time.Second)
	if tab.Want(now, 0, addr(9)) == neigh.None || tab.Generation() == gen {
		t.Fatal("no place was given up, or nobody was told")
	}
	if tab.Find(0, addr(2)) != ids[2] {
		t.Error("a neighbour in use was thrown out")
	}
}

// TestAgainstAMap runs random additions and evictions against a map.
func TestAgainstAMap(t *testing.T) {
	tab := neigh.NewTable(64, 99)
	rng := rand.New(rand.NewPCG(1, 2))
	now := wire.Time(0)
	known := map[uint32]neigh.ID{}
	for range 20000 {
		now = now.Add(time.Second)
		n := uint32(rng.IntN(200))
		gen := tab.Generation()
		id := tab.Want(now, uint8(n&1), addr(n))
		if tab.Generation() != gen { // somebody else went
			for k, v := range known {
				if v == id {
					delete(known, k)
				}
			}
		}
		if old, ok := known[n]; ok && old != id {
			t.Fatalf("neighbour %d was %d and is %d", n, old, id)
		}
		if id == neigh.None {
			continue
		}
		known[n] = id
		for k, v := range known {
			if got := tab.Find(uint8(k&1), addr(k)); got != v {
				t.Fatalf("neighbour %d is found as %d, not %d", k, got, v)
			}
		}
	}
}
