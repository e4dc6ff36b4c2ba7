package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Orders to IPVS by setsockopt, of include/uapi/linux/ip_vs.h.
const (
	addService  = 1154
	editService = 1155
	flush       = 1157
	addServer   = 1159
	delServer   = 1160
	editServer  = 1161
)

// ipvs gives orders to the kernel.
type ipvs struct{ socket int }

// serviceOf is struct ip_vs_service_user.
func serviceOf(port uint16, scheduler string) []byte {
	b := make([]byte, 44)
	binary.NativeEndian.PutUint16(b, unix.IPPROTO_TCP)
	copy(b[4:], vip.AsSlice())
	binary.BigEndian.PutUint16(b[8:], port)
	copy(b[16:32], scheduler)
	binary.NativeEndian.PutUint32(b[40:], 0xffffffff)
	return b
}

// serverOf is a service with struct ip_vs_dest_user behind it; flags of 0 there are network address translation.
func serverOf(service []byte, number int, weight uint32) []byte {
	b := append(service[:len(service):len(service)], make([]byte, 24)...)
	d := b[len(service):]
	copy(d, address(number).AsSlice())
	binary.BigEndian.PutUint16(d[4:], backendPort)
	binary.NativeEndian.PutUint32(d[12:], weight)
	return b
}

func (v ipvs) order(order int, b []byte) error {
	if err := unix.SetsockoptString(v.socket, unix.IPPROTO_IP, order, string(b)); err != nil {
		return fmt.Errorf("IPVS, order %d: %w", order, err)
	}
	return nil
}

// counts returns the active and the inactive connections of the backends of the only service, as IPVS has them.
func (v ipvs) counts() (active, inactive []int, err error) {
	active, inactive = make([]int, backends), make([]int, backends)
	f, err := os.Open("/proc/net/ip_vs")
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// "  -> 0A02000B:0050      Masq    4      20         0"
		words := strings.Fields(lines.Text())
		if len(words) != 6 || words[0] != "->" || words[2] != "Masq" {
			continue
		}
		addr, err := strconv.ParseUint(words[1][:8], 16, 32)
		if err != nil {
			return nil, nil, err
		}
		number := int(addr&0xff) - firstBackend
		if active[number], err = strconv.Atoi(words[4]); err != nil {
			return nil, nil, err
		}
		if inactive[number], err = strconv.Atoi(words[5]); err != nil {
			return nil, nil, err
		}
	}
	return active, inactive, nil
}
