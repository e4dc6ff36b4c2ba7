package director

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"naru/internal/link"
)

// ringedDevice has receive queues.
type ringedDevice struct {
	*fakeDevice
	rings link.Rings
}

func (d *ringedDevice) Rings() link.Rings { return d.rings }

// TestMoreReceiveQueuesAreSaidOnce: what changes while naru runs is in the log and among the events, once each time.
func TestMoreReceiveQueuesAreSaidOnce(t *testing.T) {
	var log bytes.Buffer
	set, fakes := fakeSet()
	dev := &ringedDevice{fakeDevice: fakes[0], rings: link.Rings{Queues: 2, QueuesNow: 2}}
	set.Devices[0] = dev
	d := &Director{log: slog.New(slog.NewTextHandler(&log, nil)), standing: newStanding(), queues: queueWatch{},
		workers: []*worker{testWorker(t, 0, 1, set)}}
	for _, step := range []struct {
		now   int
		level string
		text  string
	}{
		{now: 2},
		{now: 4, level: "ERROR", text: "eth0 has 4 receive queues now, of which naru serves 2"},
		{now: 4},
		{now: 3, level: "ERROR", text: "eth0 has 3 receive queues now, of which naru serves 2"},
		{now: 2, level: "WARN", text: "eth0 has 2 receive queues now, of which naru serves 2"},
	} {
		log.Reset()
		dev.rings.QueuesNow = step.now
		before, _ := d.standing.ring.After(0)
		d.watchQueues()
		after, _ := d.standing.ring.After(0)
		if step.text == "" {
			if log.Len() > 0 || len(after) != len(before) {
				t.Errorf("%d queues, as before: %s", step.now, log.String())
			}
			continue
		}
		if !strings.Contains(log.String(), "level="+step.level) || len(after) != len(before)+1 ||
			after[len(after)-1].Text != step.text {
			t.Errorf("%d queues: %s, %+v", step.now, log.String(), after)
		}
	}
	dev.rings = link.Rings{} // closed
	log.Reset()
	if d.watchQueues(); log.Len() > 0 {
		t.Errorf("closed: %s", log.String())
	}
}
