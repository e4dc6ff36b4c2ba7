package kernel

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Our own choices.
const (
	// settle is how long the mirror waits after an announcement for those that belong to it: changes come in flocks.
	settle = 20 * time.Millisecond

	// A dump of a big routing table takes long; after one the mirror rests restFactor times as long, so that a
	// flapping table costs a tenth of a CPU and not a whole one.
	restFactor = 10

	// retryAfter is the pause after a dump that failed.
	retryAfter = time.Second
)

// change is a set of parts of the State.
type change uint8

const (
	changeLinks change = 1 << iota
	changeAddrs
	changeRoutes
	changeNeighbors
	changeAll = changeLinks | changeAddrs | changeRoutes | changeNeighbors
)

// implied adds what the kernel changes without a word: with an interface or an address routes go unannounced.
func (c change) implied() change {
	if c&(changeLinks|changeAddrs) != 0 {
		return changeAll
	}
	return c
}

// Mirror keeps a State that follows the kernel.
type Mirror struct {
	handle *netlink.Handle
	sub    *subscription
	report func(error)
	now    atomic.Pointer[State]
	dirty  chan change
	notify chan struct{}
	quit   chan struct{}
	done   sync.WaitGroup
	once   sync.Once
}

// NewMirror subscribes, reads the State and follows it, in the network namespace of the calling thread. Errors on the
// way (a lost subscription message, a failed dump) go to report, which may be nil; the mirror reads everything again
// then and goes on.
func NewMirror(report func(error)) (*Mirror, error) {
	if report == nil {
		report = func(error) {}
	}
	m := &Mirror{report: report, dirty: make(chan change, 64), notify: make(chan struct{}, 1), quit: make(chan struct{})}
	var err error
	// The subscription comes first: what changes during the first dump is announced.
	if m.sub, err = subscribe(unix.NETLINK_ROUTE, routeGroups); err != nil {
		return nil, fmt.Errorf("kernel: netlink: %w", err)
	}
	if m.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		_ = m.sub.Close()
		return nil, fmt.Errorf("kernel: netlink: %w", err)
	}
	first := &State{}
	if err := refresh(m.handle, first, changeAll); err != nil {
		_ = m.sub.Close()
		m.handle.Close()
		return nil, err
	}
	m.now.Store(first)
	m.done.Add(2)
	go m.listen()
	go m.follow()
	return m, nil
}

// State returns the newest picture.
func (m *Mirror) State() *State { return m.now.Load() }

// Changed gets a value after State has changed; several changes may give one value.
func (m *Mirror) Changed() <-chan struct{} { return m.notify }

// Close ends the subscription and waits until the mirror's goroutines have ended. It may be called more than once.
func (m *Mirror) Close() {
	m.once.Do(func() {
		close(m.quit)
		_ = m.sub.Close()
		m.done.Wait()
		m.handle.Close()
	})
}

// listen turns announcements into marks of what is no longer true.
func (m *Mirror) listen() {
	defer m.done.Done()
	for {
		what, err := m.sub.next()
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil { // ENOBUFS: announcements were lost, nobody knows which
			m.report(fmt.Errorf("kernel: netlink subscription: %w", err))
			what = changeAll
		}
		if what == 0 {
			continue
		}
		select {
		case m.dirty <- what:
		case <-m.quit:
			return
		}
		if err != nil && !m.pause(settle) {
			return
		}
	}
}

// follow reads again what is marked.
func (m *Mirror) follow() {
	defer m.done.Done()
	var pending change
	for {
		if pending == 0 {
			select {
			case pending = <-m.dirty:
			case <-m.quit:
				return
			}
		}
		if !m.pause(settle) {
			return
		}
		pending = (pending | m.drain()).implied()
		start := time.Now()
		next := *m.now.Load()
		if err := refresh(m.handle, &next, pending); err != nil {
			m.report(err)
			if !m.pause(retryAfter) {
				return
			}
			pending = changeAll
			continue
		}
		pending = 0
		m.publish(&next)
		if !m.pause(restFactor * time.Since(start)) {
			return
		}
	}
}

func (m *Mirror) drain() (what change) {
	for {
		select {
		case c := <-m.dirty:
			what |= c
		default:
			return what
		}
	}
}

func (m *Mirror) publish(next *State) {
	if same(next, m.now.Load()) {
		return
	}
	m.now.Store(next)
	select {
	case m.notify <- struct{}{}:
	default:
	}
}

// pause reports false if the mirror was closed meanwhile.
func (m *Mirror) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-m.quit:
		return false
	}
}
