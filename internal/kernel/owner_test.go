package kernel

import (
	"errors"
	"os"
	"testing"
)

func TestOneOwnerPerNetworkNamespace(t *testing.T) {
	a, b := newNS(t, "a"), newNS(t, "b")
	a.Do(t, func() {
		if _, ok := Holder(); ok {
			t.Error("a holder before anybody owns")
		}
		first, err := Own()
		must(t, err)
		var owned *OwnedError
		if _, err := Own(); !errors.As(err, &owned) || owned.PID != os.Getpid() {
			t.Errorf("second owner: %v", err)
		}
		if pid, ok := Holder(); !ok || pid != os.Getpid() {
			t.Errorf("holder %d %v", pid, ok)
		}
		b.Do(t, func() {
			other, err := Own()
			must(t, err)
			other.Release()
		})
		first.Release()
		first.Release()
		again, err := Own()
		must(t, err)
		again.Release()
		if _, ok := Holder(); ok {
			t.Error("a holder after Release")
		}
	})
}

func TestManyAskWhoTheHolderIs(t *testing.T) {
	newNS(t, "a").Do(t, func() {
		o, err := Own()
		must(t, err)
		defer o.Release()
		for range 500 {
			if _, ok := Holder(); !ok {
				t.Fatal("no holder")
			}
		}
	})
}
