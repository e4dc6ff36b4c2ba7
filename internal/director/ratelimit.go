package director

import (
	"sync"
	"time"
)

// Our own choices.
const (
	sayEvery  = 10 * time.Second // one message a key in this time
	sayKeys   = 1024             // keys remembered; beyond it the oldest knowledge goes
	eventRoom = 256              // events kept for the log; what does not fit is dropped, and said
)

// limiter lets a message through once in a while for each key, and counts those that it held back.
type limiter struct {
	mu   sync.Mutex
	last map[string]*said
}

type said struct {
	at   time.Time
	held int
}

// allow reports whether a message may be written now, and how many like it were held back since the last one.
func (l *limiter) allow(key string, now time.Time) (held int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil || len(l.last) >= sayKeys && l.last[key] == nil {
		l.last = map[string]*said{}
	}
	s := l.last[key]
	if s == nil {
		l.last[key] = &said{at: now}
		return 0, true
	}
	if now.Sub(s.at) < sayEvery {
		s.held++
		return 0, false
	}
	held, s.held, s.at = s.held, 0, now
	return held, true
}
