package forwarder_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"naru/internal/wire"
)

// crewBench is a bench a worker, each with about so many connections that are its own.
func crewBench(b *testing.B, workers, conns int) []*bench {
	b.Helper()
	c := newCrewSized(b, config(), workers, max(1024, 2*conns))
	plan := c.snap.Steering()
	var benches []*bench
	for w := range workers {
		x := newBench(b, conns*workers)
		x.rig = c.rigs[w]
		own := x.order[:0]
		for _, n := range x.order {
			f := wire.Flow{Src: wire.Addr4([]byte{10, 0, byte(n >> 16), byte(n >> 8)}), Dst: wire.AddrFrom(addr(vip)),
				SrcPort: 1000 + uint16(n&0xff), DstPort: 53, Proto: wire.ProtoUDP}
			if plan.Owner(&f) == w {
				own = append(own, n)
			}
		}
		x.order = own
		benches = append(benches, x)
	}
	return benches
}

// parallel lets each worker do its part of b.N packets, all at the same time. It also tells the processor time that a packet
// costs: as long as that is the same, workers do not wait for each other, whatever else the machine does.
func parallel(b *testing.B, benches []*bench, batch func(x *bench)) {
	b.ReportAllocs()
	b.ResetTimer()
	var wait sync.WaitGroup
	var busy atomic.Int64
	for _, x := range benches {
		wait.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			before := threadTime(b)
			for i := 0; i < b.N/len(benches); i += benchBatch {
				batch(x)
			}
			busy.Add(int64(threadTime(b) - before))
		})
	}
	wait.Wait()
	report(b)
	b.ReportMetric(float64(busy.Load())/float64(b.N), "cpu-ns/op")
}

// threadTime is the processor time of the calling thread.
func threadTime(b *testing.B) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		b.Error(err)
	}
	return time.Duration(ts.Nano())
}

// BenchmarkWorkers is the engine alone with one and with several workers at the same time, without devices: compare the
// rates. One processor a worker is needed.
func BenchmarkWorkers(b *testing.B) {
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("established/workers=%d", workers), func(b *testing.B) {
			benches := crewBench(b, workers, 20_000)
			for _, x := range benches {
				for i := 0; i < len(x.order); i += benchBatch {
					x.fill()
					x.run(b)
				}
			}
			parallel(b, benches, func(x *bench) {
				x.fill()
				x.run(b)
			})
		})
		b.Run(fmt.Sprintf("new/workers=%d", workers), func(b *testing.B) {
			parallel(b, crewBench(b, workers, 50_000), func(x *bench) {
				x.fill()
				x.rig.now = x.rig.now.Add(40_000_000) // as in BenchmarkNewConnection; a worker has half the ports
				x.run(b)
				x.rig.eng.Tick(x.rig.now, x.rig.out, nil)
				x.rig.out.Reset()
			})
		})
	}
}
