package schedbench

import "time"

// What ends.
const (
	itself   = 1 << iota // the connection
	itsCount             // its being counted
)

// ending is a connection that will end, or its being counted.
type ending struct {
	at      time.Duration
	backend int32
	what    uint8
}

// endings is a heap: the first is the one that comes next.
type endings []ending

func (e *endings) push(x ending) {
	h := append(*e, x)
	i := len(h) - 1
	for i > 0 && x.at < h[(i-1)/2].at {
		h[i] = h[(i-1)/2]
		i = (i - 1) / 2
	}
	h[i] = x
	*e = h
}

func (e *endings) pop() ending {
	h := *e
	first, x := h[0], h[len(h)-1]
	h = h[:len(h)-1]
	*e = h
	i := 0
	for child := 1; child < len(h); child = 2*i + 1 {
		if child+1 < len(h) && h[child+1].at < h[child].at {
			child++
		}
		if h[child].at >= x.at {
			break
		}
		h[i] = h[child]
		i = child
	}
	if len(h) > 0 {
		h[i] = x
	}
	return first
}
