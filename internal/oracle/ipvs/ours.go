package main

import (
	"slices"

	"naru/sched"
)

// ours plays a case with package sched. A connection counts from its first packet until it is closed.
type ours struct {
	options sched.Options
	numbers []int // of the backends in list
	list    []sched.Backend
	sched   sched.Scheduler
	loads   [backends]sched.Load
	conns   map[int]int // connection to backend
}

// hashKey is any key: what the hashes choose depends on it, and nothing that is compared does.
var hashKey = [2]uint64{1, 2}

func playOurs(c *Case) Result {
	kind, _ := sched.Parse(c.Scheduler)
	o := &ours{options: sched.Options{Kind: kind, Key: hashKey}, conns: map[int]int{}}
	for i, w := range c.Weights {
		o.insert(len(o.list), i, w)
	}
	o.renew()
	var res Result
	for _, s := range c.Steps {
		switch s.Op {
		case Open, Half:
			res.Choices = append(res.Choices, o.choose(s))
		case Reset, Finish:
			if b, ok := o.conns[s.Conn]; ok {
				o.loads[b].Active.Add(-1)
			}
		case Weigh:
			o.list = slices.Clone(o.list)
			o.list[slices.Index(o.numbers, s.Backend)].Weight = s.Weight
			o.renew()
		case Add:
			o.insert(0, s.Backend, s.Weight)
			o.renew()
		case Remove:
			i := slices.Index(o.numbers, s.Backend)
			o.numbers, o.list = slices.Delete(o.numbers, i, i+1), slices.Delete(slices.Clone(o.list), i, i+1)
			o.renew()
		}
	}
	return res
}

func (o *ours) insert(at, number int, weight uint32) {
	b := sched.Backend{Name: address(number).String(), Weight: weight, Load: &o.loads[number]}
	o.numbers, o.list = slices.Insert(o.numbers, at, number), slices.Insert(slices.Clone(o.list), at, b)
}

func (o *ours) renew() { o.sched = sched.New(o.options, o.list, o.sched) }

func (o *ours) choose(s Step) int {
	client := clientAddress(s.Client).As4()
	i := o.sched.Pick(sched.SipHash(hashKey, client[:]))
	if i < 0 {
		return -1
	}
	o.conns[s.Conn] = o.numbers[i]
	return o.numbers[i]
}
