package admin

import (
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"sync"
)

// The groups that have a role.
const (
	WriteGroup = "naru"
	ReadGroup  = "naru-ro"
)

// access is who may do what; a group of -1 does not exist.
type access struct {
	uid         uint32
	write, read int
}

func groups() access {
	id := func(name string) int {
		if g, err := user.LookupGroup(name); err == nil {
			if n, err := strconv.Atoi(g.Gid); err == nil {
				return n
			}
		}
		return -1
	}
	return access{uint32(os.Geteuid()), id(WriteGroup), id(ReadGroup)}
}

// guard sets who may connect.
func (a access) guard(path string) error {
	mode := os.FileMode(0o660)
	if a.read >= 0 {
		mode = 0o666 // the credentials decide
	}
	if a.write >= 0 && os.Geteuid() == 0 {
		if err := os.Chown(path, -1, a.write); err != nil {
			return err
		}
	}
	return os.Chmod(path, mode)
}

// role returns what a user with these groups may do.
func (a access) role(uid uint32, gids []int) Role {
	switch {
	case uid == 0 || uid == a.uid || a.write >= 0 && slices.Contains(gids, a.write):
		return Write
	case a.read >= 0 && slices.Contains(gids, a.read):
		return Read
	}
	return Nobody
}

// credentials are who is at the other end of a connection.
type credentials struct {
	uid, gid uint32
	pid      int
}

// listener accepts connections and tells who is at the other end. Who has too many is turned away at once, so that the
// others get in.
type listener struct {
	*net.UnixListener
	who access

	mu    sync.Mutex
	all   int
	users map[uint32]int
}

func newListener(l *net.UnixListener, who access) *listener {
	return &listener{UnixListener: l, who: who, users: map[uint32]int{}}
}

// conn is a connection with the role of its peer.
type conn struct {
	*net.UnixConn
	role    Role
	release func()
}

// Accept waits for a connection that may stay.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		cred, err := peer(c)
		if err != nil || !l.admit(cred.uid) {
			_ = c.Close()
			continue
		}
		role := l.who.role(cred.uid, append(peerGroups(c), int(cred.gid)))
		return &conn{c, role, sync.OnceFunc(func() { l.leave(cred.uid) })}, nil
	}
}

// Close ends the connection and makes room for another.
func (c *conn) Close() error {
	defer c.release()
	return c.UnixConn.Close()
}

func (l *listener) admit(uid uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= maxConns || l.users[uid] >= maxUserOnly {
		return false
	}
	l.all++
	l.users[uid]++
	return true
}

func (l *listener) leave(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.users[uid]--; l.users[uid] == 0 {
		delete(l.users, uid)
	}
}
