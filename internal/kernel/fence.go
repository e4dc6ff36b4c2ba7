package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Names in the ruleset, as `nft list ruleset` shows them.
const (
	tableName   = "naru"
	sharedName  = "fence"   // the chain with the rules; one base chain an interface jumps to it
	repliesName = "replies" // the chain with the rules for ReplyInterfaces only
	legPrefix   = "leg-"    // + interface name: a base chain

	// fencePriority comes before every priority that nft(8) has a name for.
	fencePriority = -500
)

// ErrUnsupported says that the kernel cannot do what is asked: nf_tables, or its netdev family, is not built in.
var ErrUnsupported = errors.New("not supported by this kernel")

// FenceSpec says what the kernel must be kept away from. IPv4 and IPv6 addresses may be mixed, order does not matter.
type FenceSpec struct {
	Interfaces []string     // names of the legs; one that does not exist is left out until it does
	VIPs       []netip.Addr // addresses that are naru's as a whole
	Pool       []netip.Addr // local addresses that the kernel does not hold: naru's as a whole too
	Services   []FencePorts // ports of addresses that naru shares with the kernel
	LocalPorts []FencePorts // naru's local ports on addresses that the kernel holds

	// Outer are prefixes from which naru sends tunnelled packets, so that what comes to them is naru's.
	Outer []netip.Prefix

	// Replies are ports of backends that answer through naru to the clients themselves: what comes from them by one of
	// ReplyInterfaces is naru's to forward, unless it is for this host. Host are the addresses that tell: all that the
	// kernel holds. Frames to a multicast or broadcast MAC address, which the kernel does not forward, are left to it.
	Replies         []FencePorts
	ReplyInterfaces []string
	Host            []netip.Addr
}

func (s *FenceSpec) hasReplies() bool { return len(s.Replies) > 0 && len(s.ReplyInterfaces) > 0 }

// FencePorts are ports of one address, both ends included.
type FencePorts struct {
	Addr   netip.Addr
	Proto  uint8 // 6 or 17
	Lo, Hi uint16
}

// Fence is the table in the kernel while naru runs. Its methods may be called from any goroutine, but only on a thread
// in the network namespace of the fence.
type Fence struct {
	mu      sync.Mutex
	spec    FenceSpec
	up      bool
	adopted bool
	watch   *subscription // nil until Guard
}

// FenceUp puts the fence up. One that an earlier naru left behind is adopted: it is changed into the new one in one
// transaction, so that it drops the whole time. The error wraps ErrUnsupported if the kernel has no such fence, and
// os.ErrPermission without CAP_NET_ADMIN.
func FenceUp(spec FenceSpec) (*Fence, error) {
	old, err := findTable(&nftables.Conn{})
	if err != nil {
		return nil, fmt.Errorf("kernel: fence: %w", explain(err))
	}
	f := &Fence{adopted: old != nil}
	if err := f.Update(spec); err != nil {
		return nil, err
	}
	return f, nil
}

// Adopted reports whether an earlier naru had left the fence behind.
func (f *Fence) Adopted() bool { return f.adopted }

// Update replaces what the fence drops, in one transaction: what is in the old and the new spec is dropped throughout.
// Counters go on.
func (f *Fence) Update(spec FenceSpec) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := apply(spec); err != nil {
		return fmt.Errorf("kernel: fence: %w", err)
	}
	f.spec, f.up = spec, true
	return nil
}

// Ensure looks whether the fence stands as it was put up and puts it up again if not: `nft flush ruleset`, the first
// line of most firewall scripts, takes it away; an interface that came back has lost it. It reports whether anything
// had to be done.
func (f *Fence) Ensure() (restored bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.up {
		return false, nil
	}
	ok, err := stands(f.spec)
	if err != nil {
		return false, fmt.Errorf("kernel: fence: %w", err)
	}
	if ok {
		return false, nil
	}
	if err := apply(f.spec); err != nil {
		return false, fmt.Errorf("kernel: fence: %w", err)
	}
	return true, nil
}

// Guard calls Ensure whenever the ruleset changes, in a goroutine that ends with Down, and reports when it had to put
// the fence up again (err is nil then) or could not. The process must be in the fence's network namespace as a whole.
func (f *Fence) Guard(report func(err error)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	sub, err := subscribe(unix.NETLINK_NETFILTER, rulesetGroups)
	if err != nil {
		return fmt.Errorf("kernel: fence: %w", explain(err))
	}
	f.watch = sub
	go func() {
		for {
			if _, err := sub.next(); errors.Is(err, os.ErrClosed) {
				return
			}
			restored, err := f.Ensure()
			if restored || err != nil {
				report(err)
			}
			time.Sleep(settle) // somebody may change rules all the time
		}
	}()
	return nil
}

// Down takes the fence away. It may be called more than once.
func (f *Fence) Down() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.up = false
	if f.watch != nil {
		_ = f.watch.Close()
		f.watch = nil
	}
	if err := deleteTable(); err != nil {
		return fmt.Errorf("kernel: fence: %w", err)
	}
	return nil
}

// ClearFence takes a fence away that nobody holds, and reports whether there was one. While a naru runs, the error is
// its *OwnedError.
func ClearFence() (existed bool, err error) {
	owner, err := Own()
	if err != nil {
		return false, err
	}
	defer owner.Release()
	t, err := findTable(&nftables.Conn{})
	if err != nil || t == nil {
		return false, explain(err)
	}
	return true, deleteTable()
}

// apply tries to change a table that is there; one of a shape that we do not know is replaced as a whole.
func apply(spec FenceSpec) error {
	err := transact(spec, false)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EBUSY) ||
		errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		err = transact(spec, true)
	}
	return explain(err)
}

func deleteTable() error {
	c := &nftables.Conn{}
	c.DelTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyNetdev})
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return explain(err)
	}
	return nil
}

// findTable returns our table, nil if there is none.
func findTable(c *nftables.Conn) (*nftables.Table, error) {
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		if t.Name == tableName {
			t.Family = nftables.TableFamilyNetdev
			return t, nil
		}
	}
	return nil, nil
}

// chains returns the names of the chains of our table.
func chains(c *nftables.Conn) ([]string, error) {
	all, err := c.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, ch := range all {
		if ch.Table != nil && ch.Table.Name == tableName {
			names = append(names, ch.Name)
		}
	}
	return names, nil
}

// stands reports whether every chain that the spec wants is there.
func stands(spec FenceSpec) (bool, error) {
	names, err := chains(&nftables.Conn{})
	if err != nil {
		return false, explain(err)
	}
	for _, ifname := range existing(spec.Interfaces) {
		if !slices.Contains(names, legPrefix+ifname) {
			return false, nil
		}
	}
	return slices.Contains(names, sharedName) && (!spec.hasReplies() || slices.Contains(names, repliesName)), nil
}

// existing leaves out the interfaces that the kernel does not have (now): a chain cannot hang on them.
func existing(names []string) []string {
	var out []string
	for _, n := range names {
		if _, err := net.InterfaceByName(n); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// explain gives the errors of netlink a meaning that callers can branch on.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("nftables: needs CAP_NET_ADMIN: %w", err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("nftables, family netdev: %w: %w", ErrUnsupported, err)
	}
	return fmt.Errorf("nftables: %w", err)
}
