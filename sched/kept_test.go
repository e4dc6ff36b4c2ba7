package sched

import "testing"

func TestTablesAreKeptWhileTheyAreTheSame(t *testing.T) {
	o := Options{Kind: MH, TableSize: 251}
	list := func(weights ...uint32) []Backend {
		bs := make([]Backend, len(weights))
		for i, w := range weights {
			bs[i] = Backend{Name: string(rune('a' + i)), Weight: w, Load: new(Load)}
		}
		return bs
	}
	first := New(o, list(1, 1, 2), nil).(*hashed)
	turned := list(1, 1, 2)
	turned[0], turned[2] = turned[2], turned[0]
	if same := New(o, turned, first).(*hashed); same.table != first.table {
		t.Error("another order: the table was built again")
	}
	if other := New(o, list(1, 1, 3), first).(*hashed); other.table == first.table {
		t.Error("another weight: the table is the old one")
	}
	o.Key[0] = 1
	if other := New(o, list(1, 1, 2), first).(*hashed); other.table == first.table {
		t.Error("another key: the table is the old one")
	}
	o.Key[0] = 0
	grown := list(1, 1, 2, 1)
	grown[3].Share = 100
	starting := New(o, grown, first).(*hashed)
	if starting.older != first.table {
		t.Error("a backend starts slowly: the table without it was built again")
	}
	grown[3].Share = 200
	if next := New(o, grown, starting).(*hashed); next.older != first.table || next.table != starting.table {
		t.Error("a share grew: tables were built again")
	}
}
