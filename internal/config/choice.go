package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"naru/sched"
)

// Our own choices.
const (
	maxSlowStart      = time.Hour
	minTableSize      = 251
	maxTableSize      = 1<<24 - 3 // the largest prime below 2^24
	slotsEach         = 100       // slots a backend for shares within 1 % of the weights (the Maglev paper, 5.3)
	maxBound          = 100
	defaultAffinity   = 10 * time.Minute
	minAffinity       = time.Second
	defaultClients    = 1 << 16
	maxClients        = 1 << 24
	hashKeySize       = 16 // bytes
	maxServiceBackend = sched.MaxBackends
)

var (
	hashes = []string{"source", "5-tuple", "source-port", "dest"}
	onFull = []string{"overflow", "refuse"}
)

// Choice are the keys of a service that decide, beside the scheduler's name, how a new connection finds its backend.
type Choice struct {
	Hash           string  // "source", "5-tuple", "source-port" or "dest": what sh and mh hash
	Bounded        float64 // the most load of a backend relative to its weight's part, for sh and mh; 0: no bound
	TableSize      int     // slots of mh's table, a prime
	SlowStart      time.Duration
	MaxConnections int    // of the service; 0: no limit
	OnBackendFull  string // "overflow" or "refuse"
	Affinity       Affinity
}

// Affinity are the keys of affinity; the zero value is none.
type Affinity struct {
	By               string // "client-ip"
	Prefix4, Prefix6 int
	Timeout          time.Duration
	Clients          int // for how many there is room
}

// choiceFields are the keys of Choice in a service.
func (d *decoder) choiceFields(c *Choice) []field {
	return []field{
		{"hash", func(v value) { set(&c.Hash)(d.oneOf(v, hashes...)) }},
		{"bounded", func(v value) { set(&c.Bounded)(d.factor(v)) }},
		{"mh", func(v value) { d.mh(v, c) }},
		{"slow_start", func(v value) { set(&c.SlowStart)(d.duration(v, 0, maxSlowStart)) }},
		{"max_connections", func(v value) { set(&c.MaxConnections)(d.integer(v, 1, maxConnections)) }},
		{"on_backend_full", func(v value) { set(&c.OnBackendFull)(d.oneOf(v, onFull...)) }},
		{"affinity", func(v value) { c.Affinity = d.affinity(v) }},
	}
}

// defaultChoiceFields are those of them that services inherit.
func (d *decoder) defaultChoiceFields(c *Choice) []field {
	return slices.DeleteFunc(d.choiceFields(c), func(f field) bool {
		return f.name == "hash" || f.name == "bounded" || f.name == "mh"
	})
}

var defaultChoice = Choice{Hash: "source", TableSize: sched.DefaultTableSize, OnBackendFull: "overflow"}

// factor reads how much more than its part a backend may get.
func (d *decoder) factor(v value) (float64, bool) {
	const fix = "write a number from 1 to 100, as 1.25: a quarter more than its part"
	switch v.node.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
	default:
		d.fail(v.path, fix, "%s", notA(v.node, "a number"))
		return 0, false
	}
	text := v.node.GetToken().Value
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f < 1 || f > maxBound || strings.Trim(text, "0123456789.") != "" {
		d.fail(v.path, fix, "%s is out of range 1..%d", shorten(text), maxBound)
		return 0, false
	}
	return f, true
}

func (d *decoder) mh(v value, c *Choice) {
	d.mapping(v, []field{{"table_size", func(v value) {
		n, ok := d.integer(v, minTableSize, maxTableSize)
		if ok && !sched.IsPrime(n) {
			d.fail(v.path, fmt.Sprintf("write %d, the next prime", nextPrime(n)), "%d is not a prime number", n)
			return
		}
		set(&c.TableSize)(n, ok)
	}}})
}

func nextPrime(n int) int {
	for !sched.IsPrime(n) {
		n++
	}
	return n
}

// affinity reads a mapping, or off: what defaults say does not hold then.
func (d *decoder) affinity(v value) Affinity {
	if s, _ := d.scalarText(v); s == "off" {
		return Affinity{}
	}
	a := Affinity{By: "client-ip", Prefix4: 32, Prefix6: 128, Timeout: defaultAffinity, Clients: defaultClients}
	if _, isMapping := v.node.(*ast.MappingNode); !isMapping {
		d.fail(v.path, `write "affinity: {by: client-ip, timeout: 10m}" or "affinity: off"`,
			"must be a mapping or off, this is %s", kindOf(v.node))
		return Affinity{}
	}
	d.mapping(v, []field{
		{"by", func(v value) { set(&a.By)(d.oneOf(v, "client-ip")) }},
		{"prefix4", func(v value) { set(&a.Prefix4)(d.integer(v, 1, 32)) }},
		{"prefix6", func(v value) { set(&a.Prefix6)(d.integer(v, 1, 128)) }},
		{"timeout", func(v value) { set(&a.Timeout)(d.duration(v, minAffinity, maxTimeout)) }},
		{"clients", func(v value) { set(&a.Clients)(d.integer(v, 1, maxClients)) }},
	})
	return a
}

// checkChoice holds that what is written about the choice has an effect.
func (d *decoder) checkChoice(path string, s *Service) {
	kind, _ := sched.Parse(s.Scheduler)
	for _, key := range []string{"hash", "bounded", "mh"} {
		if _, written := d.keys[join(path, key)]; !written {
			continue
		}
		switch {
		case s.Scheduler == "" || kind == sched.MH || kind == sched.SH && key != "mh":
		case key == "mh":
			d.failKey(join(path, key), "remove it, or use scheduler: mh", "%s is for scheduler mh; this one is %s", key, kind)
		default:
			d.failKey(join(path, key), "remove it, or use scheduler: sh or mh", "%s is for schedulers that hash; %s does not",
				key, kind)
		}
	}
	if n := len(s.Backends); kind == sched.MH && n*slotsEach > s.TableSize && s.Scheduler != "" {
		d.warn(join(join(path, "mh"), "table_size"), fmt.Sprintf("write %d", nextPrime(n*slotsEach)),
			"%d slots for %d backends are less than %d each; shares will differ from the weights", s.TableSize, n, slotsEach)
	}
	if len(s.Backends) > maxServiceBackend {
		d.fail(join(path, "backends"), "make two services of it", "service %s has more than %d backends", s.Name,
			maxServiceBackend)
	}
	d.checkLimits(path, s)
}

// checkLimits looks at limits and backups, which are nothing without others.
func (d *decoder) checkLimits(path string, s *Service) {
	limited, primaries := false, len(s.Backends) == 0
	for _, b := range s.Backends {
		limited = limited || b.MaxConnections > 0
		primaries = primaries || !b.Backup
	}
	if at := join(path, "on_backend_full"); !limited && s.OnBackendFull == "refuse" {
		if _, written := d.keys[at]; written {
			d.warn(at, "give backends max_connections, or remove it", "no backend of service %s is ever full", s.Name)
		}
	}
	if !primaries {
		d.warn(join(path, "backends"), "remove backup: true from those that are to serve first",
			"all backends of service %s are backups; they serve like any others", s.Name)
	}
}

// absoluteFile reads the path of a file.
func (d *decoder) absoluteFile(v value, example string) string {
	s, ok := d.word(v, example)
	if ok && (!filepath.IsAbs(s) || strings.HasSuffix(s, "/")) {
		d.fail(v.path, "write it as "+example, "%s is not the absolute path of a file", quoted(s))
		return ""
	}
	return s
}

// ReadSecrets reads the files that the configuration names and puts what is in them into it; read is os.ReadFile. The
// problems tell what is wrong with them, at the keys that name them.
func (c *Config) ReadSecrets(read func(string) ([]byte, error)) []Problem {
	const at = "node.hash_key_file"
	file := c.Node.HashKeyFile
	if file == "" {
		return nil
	}
	text, err := read(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []Problem{c.Problem(at, file+": no such file", "make one: openssl rand -hex 16 > "+file)}
	case errors.Is(err, fs.ErrPermission):
		return []Problem{c.Problem(at, file+": permission denied", "make it readable for the user that naru runs as")}
	case err != nil:
		return []Problem{c.Problem(at, err.Error(), "name a file with 32 hexadecimal digits")}
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != hashKeySize {
		return []Problem{c.Problem(at, file+" does not hold 32 hexadecimal digits",
			"make a new one: openssl rand -hex 16 > "+file)}
	}
	c.Node.HashKey = (*[hashKeySize]byte)(key)
	return nil
}
