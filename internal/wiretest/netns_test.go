package wiretest

import (
	"os"
	"testing"

	"github.com/vishvananda/netns"
)

func TestDoEntersTheNamespaceAndLeavesIt(t *testing.T) {
	Root(t)
	before, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	n := NewNS(t, "do")
	n.Do(t, func() {
		here, err := netns.Get()
		if err != nil {
			t.Error(err)
			return
		}
		defer here.Close()
		if !here.Equal(n.ns) {
			t.Errorf("inside Do the namespace is %v, want %v", here, n.ns)
		}
	})
	after, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	if !after.Equal(before) {
		t.Error("the caller's namespace changed")
	}
}

func TestVethJoinsTwoNamespacesAndLeavesNoName(t *testing.T) {
	Root(t)
	a, b := NewNS(t, "a"), NewNS(t, "b")
	Veth(t, a, "left0", b, "right0")
	a.Addr(t, "left0", "10.0.0.1/24", "2001:db8::1/64")
	if got := a.Link(t, "left0").Attrs().OperState.String(); got != "up" {
		t.Errorf("left0 is %s, want up", got)
	}
	for _, dir := range []string{"/run/netns/", "/sys/class/net/"} {
		for _, name := range []string{a.String(), b.String(), "left0", "right0"} {
			if _, err := os.Stat(dir + name); err == nil {
				t.Errorf("%s%s exists outside of the namespaces", dir, name)
			}
		}
	}
}

func TestRequiredReadsTheList(t *testing.T) {
	for _, tc := range []struct {
		env  string
		want bool
	}{
		{"", false}, {"root", true}, {"pcaps,root", true}, {"pcaps, root", true}, {"pcaps", false}, {"rootless", false},
	} {
		t.Setenv("NARU_REQUIRE", tc.env)
		if got := Required("root"); got != tc.want {
			t.Errorf("NARU_REQUIRE=%q: Required(root) = %v, want %v", tc.env, got, tc.want)
		}
	}
}
