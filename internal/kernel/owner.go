package kernel

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// ownerName is an abstract socket (unix(7)): it exists once a network namespace and vanishes with the process, however
// that ends.
const ownerName = "@naru/owner"

// Owner is the place that one live naru has in a network namespace.
type Owner struct{ l *net.UnixListener }

// OwnedError says that another process holds the place.
type OwnedError struct {
	PID int // of the holder; 0 if it runs in a PID namespace that is not visible from here
}

// Error names the process.
func (e *OwnedError) Error() string {
	if e.PID == 0 {
		return "kernel: another naru runs in this network namespace, in a PID namespace that is not visible from here"
	}
	return fmt.Sprintf("kernel: another naru runs in this network namespace (pid %d)", e.PID)
}

// Own takes the place of the calling thread's network namespace. The error is an *OwnedError if somebody has it.
func Own() (*Owner, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: ownerName, Net: "unix"})
	if errors.Is(err, unix.EADDRINUSE) {
		pid, _ := Holder()
		return nil, &OwnedError{PID: pid}
	}
	if err != nil {
		return nil, fmt.Errorf("kernel: owner socket: %w", err)
	}
	o := &Owner{l: l}
	go o.hangUp()
	return o, nil
}

// hangUp keeps the socket's queue empty: who connects wants nothing but our credentials.
func (o *Owner) hangUp() {
	for {
		c, err := o.l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		_ = c.Close()
	}
}

// Release gives the place back. It may be called more than once.
func (o *Owner) Release() { _ = o.l.Close() }

// Holder returns the process that holds the place of the calling thread's network namespace, and whether there is
// one. The pid is 0 if the holder is there but its PID namespace is not visible from here.
func Holder() (pid int, ok bool) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, false
	}
	defer func() { _ = unix.Close(fd) }()
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: ownerName}); {
	case errors.Is(err, unix.EAGAIN):
		return 0, true // it is there, with a full queue
	case err != nil:
		return 0, false
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, true
	}
	return int(cred.Pid), true
}
