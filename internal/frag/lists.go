package frag

// none is no item.
const none = ^uint32(0)

// lists are lists of items, which are small numbers; an item is in at most one list at a time.
type lists struct {
	links []link // of the items, then of the heads
	items uint32
}

type link struct{ prev, next uint32 }

func newLists(items, heads int) lists {
	l := lists{make([]link, items+heads), uint32(items)}
	for i := range l.links {
		l.links[i] = link{uint32(i), uint32(i)}
	}
	return l
}

// push puts an item that is in no list at the end of one.
func (l *lists) push(list int, item uint32) {
	head := l.items + uint32(list)
	last := l.links[head].prev
	l.links[item] = link{last, head}
	l.links[last].next, l.links[head].prev = item, item
}

// cut takes an item out of its list.
func (l *lists) cut(item uint32) {
	k := l.links[item]
	l.links[k.prev].next, l.links[k.next].prev = k.next, k.prev
}

// move puts an item at the end of another list.
func (l *lists) move(list int, item uint32) {
	l.cut(item)
	l.push(list, item)
}

// all returns the items of a list in their order.
func (l *lists) all(list int) (items []uint32) {
	for n := l.first(list); n != none; n = l.item(l.links[n].next) {
		items = append(items, n)
	}
	return items
}

func (l *lists) first(list int) uint32 { return l.item(l.links[l.items+uint32(list)].next) }
func (l *lists) last(list int) uint32  { return l.item(l.links[l.items+uint32(list)].prev) }

func (l *lists) item(n uint32) uint32 {
	if n >= l.items {
		return none
	}
	return n
}
