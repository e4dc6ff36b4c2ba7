package forwarder

import (
	"encoding/binary"
	"time"

	"naru/internal/wire"
)

// Our own choices, near those of Linux (net.ipv4.icmp_msgs_per_sec).
const (
	limitAll       = 1000 // errors a second to everybody together
	limitAllBurst  = 200
	limitOne       = 20 // errors a second to one prefix (/24, /64)
	limitOneBurst  = 40
	limitPrefixes  = 1024 // buckets; prefixes that share one share its tokens
	nanosPerSecond = int64(time.Second)
)

// bucket is a token bucket that fills by itself.
type bucket struct {
	at     wire.Time
	tokens int64 // thousandths
	used   bool
}

// take takes cost thousandths.
func (b *bucket) take(now wire.Time, rate, burst, cost int64) bool {
	burst = max(burst, cost/1000)
	if !b.used {
		b.used, b.at, b.tokens = true, now, burst*1000
	}
	if gap := int64(now - b.at); gap >= nanosPerSecond*burst/rate {
		b.tokens, b.at = burst*1000, now
	} else if add := gap * rate * 1000 / nanosPerSecond; add > 0 {
		b.tokens, b.at = min(b.tokens+add, burst*1000), now
	}
	if b.tokens < cost {
		return false
	}
	b.tokens -= cost
	return true
}

// limiter bounds the errors and resets that naru sends, so that it is no reflector: in all, and to each prefix.
type limiter struct {
	key  uint64
	cost int64 // of an error, in thousandths: each worker has its part of all
	all  bucket
	one  [limitPrefixes]bucket
}

// allow reports whether an error may be sent to an address now.
func (l *limiter) allow(now wire.Time, to *wire.Addr) bool {
	prefix := binary.BigEndian.Uint64(to[:]) // IPv6: the /64
	if to.Is4() {
		prefix = uint64(binary.BigEndian.Uint32(to[12:]) >> 8)
	}
	i := (prefix ^ l.key) * 0x9e3779b97f4a7c15 >> 54
	return l.one[i].take(now, limitOne, limitOneBurst, l.cost) && l.all.take(now, limitAll, limitAllBurst, l.cost)
}
