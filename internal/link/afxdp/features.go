package afxdp

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The netdev family of generic netlink (linux/netdev.h).
const (
	netdevFamily     = "netdev"
	netdevDevGet     = 1
	netdevIfindex    = 1
	netdevFeatures   = 3
	featureRedirect  = 2
	featureZeroCopy  = 8
	genlHeaderLen    = 4
	netdevGenVersion = 1
)

// Support says what an interface's driver can do for AF_XDP.
type Support struct {
	Physical bool // the interface belongs to a device of a bus, it is not made of software
	Native   bool // the driver runs programs itself
	ZeroCopy bool // the driver shares the memory
	Fits     bool // the MTU is at most MaxMTU
}

// Supported asks the kernel about an interface of the calling thread's network namespace. Kernels before 6.3 do not say
// what drivers can do: then the error wraps an os.SyscallError or netlink's "not found".
func Supported(name string) (s Support, err error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return s, fmt.Errorf("afxdp: %s: %w", name, err)
	}
	s.Physical, s.Fits = l.Attrs().ParentDev != "", l.Attrs().MTU <= MaxMTU
	family, err := netlink.GenlFamilyGet(netdevFamily)
	if err != nil {
		return s, fmt.Errorf("afxdp: %s: ask for features: %w", name, err)
	}
	req := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_REQUEST)
	req.AddRawData([]byte{netdevDevGet, netdevGenVersion, 0, 0}) // nl.Genlmsg leaves the reserved bytes to chance
	index := make([]byte, 4)
	binary.NativeEndian.PutUint32(index, uint32(l.Attrs().Index))
	req.AddRawData(nl.NewRtAttr(netdevIfindex, index).Serialize())
	msgs, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return s, fmt.Errorf("afxdp: %s: ask for features: %w", name, err)
	}
	for _, m := range msgs {
		if len(m) < genlHeaderLen {
			continue
		}
		attrs, err := nl.ParseRouteAttr(m[genlHeaderLen:])
		if err != nil {
			return s, fmt.Errorf("afxdp: %s: features: %w", name, err)
		}
		for _, a := range attrs {
			if int(a.Attr.Type) == netdevFeatures && len(a.Value) >= 8 {
				bits := binary.NativeEndian.Uint64(a.Value)
				s.Native, s.ZeroCopy = bits&featureRedirect != 0, bits&featureZeroCopy != 0
			}
		}
	}
	return s, nil
}
