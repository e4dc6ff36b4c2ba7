package admin

import (
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peer returns who is at the other end.
func peer(c *net.UnixConn) (who credentials, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return who, err
	}
	if e := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			who = credentials{cred.Uid, cred.Gid, int(cred.Pid)}
		}
	}); e != nil {
		return who, e
	}
	return who, err
}

// peerGroups returns the groups of the other end beyond its first (SO_PEERGROUPS, socket(7)); none if it has too many.
func peerGroups(c *net.UnixConn) (gids []int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	var list [256]uint32
	size := uint32(len(list) * 4)
	_ = raw.Control(func(fd uintptr) {
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&list)), uintptr(unsafe.Pointer(&size)), 0)
		if e != 0 {
			size = 0
		}
	})
	for _, g := range list[:size/4] {
		gids = append(gids, int(g))
	}
	return gids
}
