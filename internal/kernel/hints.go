package kernel

import (
	"fmt"
	"io/fs"
	"math/big"
	"path"
	"strconv"
	"strings"

	"naru/internal/host"
)

// Hints says what this host could do to receive faster, a sentence each: spread the kernel's half of the work, which
// happens before naru sees a frame. sys is the file system at /sys, cpus the number of processors. What cannot be read gives
// no hint.
func Hints(sys fs.FS, links []host.Link, cpus int) []string {
	var out []string
	if cpus < 2 {
		return nil
	}
	for _, l := range links {
		// /sys may be that of another network namespace, with other interfaces of the same names.
		index, err := fs.ReadFile(sys, path.Join("class/net", l.Name, "ifindex"))
		if err != nil || strings.TrimSpace(string(index)) != strconv.Itoa(l.Index) {
			continue
		}
		queues, err := fs.Glob(sys, path.Join("class/net", l.Name, "queues", "rx-*"))
		if err != nil || len(queues) == 0 || len(queues) >= cpus {
			continue
		}
		off := 0
		for _, q := range queues {
			text, err := fs.ReadFile(sys, path.Join(q, "rps_cpus"))
			mask, ok := new(big.Int).SetString(strings.ReplaceAll(strings.TrimSpace(string(text)), ",", ""), 16)
			if err == nil && ok && mask.Sign() == 0 {
				off++
			}
		}
		if off == len(queues) {
			all := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(cpus)), big.NewInt(1))
			out = append(out, fmt.Sprintf("%s has %d receive queues for %d processors and RPS is off: "+
				"for f in /sys/class/net/%[1]s/queues/rx-*/rps_cpus; do echo %[4]s > $f; done", l.Name, len(queues), cpus, maskText(all)))
		}
	}
	return out
}

// maskText writes a mask of processors as sysfs takes it: words of 32 bits with commas between them.
func maskText(mask *big.Int) string {
	text := mask.Text(16)
	for i := len(text) - 8; i > 0; i -= 8 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
