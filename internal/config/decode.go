package config

import (
	"fmt"
	"time"

	"github.com/goccy/go-yaml/ast"

	"naru/sched"
)

// Our own choices: what a key means that is not written, and the bounds of those that are.
const (
	// DefaultSocket is the admin socket.
	DefaultSocket = "/run/naru/naru.sock"

	defaultConnections = 1 << 20
	minConnections     = 1 << 10
	maxConnections     = 1 << 24
	maxWorkers         = 64
	maxInterfaces      = 8
	maxWeight          = 65535
	minSourcePorts     = maxWorkers // at least one port a worker
	defaultPortRest    = time.Minute
	maxPortRest        = time.Hour
	minTimeout         = time.Millisecond
	maxTimeout         = 30 * 24 * time.Hour
	maxMTU             = 65535
)

// The least MTU of a link: what every host takes (RFC 791 3.1), and what every link carries (RFC 8200 5).
const (
	leastMTU4 = 576
	leastMTU6 = 1280
)

// defaultSourcePorts leaves out the system ports and the kernel's own default range for outgoing connections.
var defaultSourcePorts = Ports{1024, 32767}

// defaults are what services inherit.
type defaults struct {
	scheduler, reject, midstream string
	choice                       Choice
	timeouts                     Timeouts
	health                       Health
	onIdle                       string
	onBackendDown                OnBackendDown
}

// defaultTimeouts follow RFC 5382 REQ-5 (tcp_established, tcp_closing) and RFC 4787 REQ-5 (udp).
// tcp_syn is shorter than RFC 5382 asks for: a flood of SYNs must not fill the table.
var defaultTimeouts = Timeouts{
	TCPSyn:         30 * time.Second,
	TCPEstablished: 2*time.Hour + 4*time.Minute,
	TCPClosing:     4 * time.Minute,
	UDP:            5 * time.Minute,
	UDPUnreplied:   30 * time.Second,
}

// The words of keys that take one of a few.
var (
	rejects    = []string{"rst", "icmp", "drop"}
	midstreams = []string{"reject", "drop", "pickup"}
	sides      = []string{"client", "backend", "both"}
	owners     = []string{"naru", "shared"}
	fences     = []string{"nft", "none"}
	protocols  = []string{"tcp", "udp"}
	echoes     = []string{"answer", "pass", "drop"}
)

// laterSchedulers are names of ipvsadm(8) that Parse of package sched does not take yet.
var laterSchedulers = []string{"dh", "lblc", "lblcr", "fo", "ovf"}

// root reads the whole file.
func (d *decoder) root(v value) {
	c := d.cfg
	d.place(v, nil)
	d.mapping(v, append([]field{
		{"version", d.version},
		{"node", d.node},
		{"interfaces", d.interfaces},
		{"io", d.io},
		{"fence", func(v value) { set(&c.Fence)(d.oneOf(v, fences...)) }},
		{"admin", d.admin},
		{"log", d.log},
		{"defaults", d.defaultValues},
		{"vips", d.vips},
		{"neighbors", d.neighbors},
		{"services", d.services},
	}, later("ha", "include", "shutdown", "health", "hash_key_file")...))
	d.need(v, "version", `write "version: 1" as the first line`)
	d.need(v, "interfaces", `write "interfaces: [{name: eth0, side: client}, {name: eth1, side: backend}]"`)
	if _, ok := d.keys["services"]; !ok {
		d.warn("", `add "services:"`, "there are no services; naru forwards nothing")
	}
}

// set returns a function that puts a value that was read well into its place.
func set[T any](p *T) func(T, bool) {
	return func(v T, ok bool) {
		if ok {
			*p = v
		}
	}
}

func (d *decoder) version(v value) {
	if n, ok := d.integer(v, 0, 1<<31-1); ok && n != 1 {
		d.fail(v.path, `write "version: 1"`, "version %d is not known; this naru reads version 1", n)
	}
}

func (d *decoder) node(v value) {
	n := &d.cfg.Node
	d.mapping(v, []field{
		{"name", func(v value) { n.Name = d.nodeName(v) }},
		{"workers", func(v value) { n.Workers = d.workers(v) }},
		{"cpus", func(v value) { d.cpus(v) }},
		{"connections", func(v value) { set(&n.Connections)(d.integer(v, minConnections, maxConnections)); n.fillLimits() }},
		{"limits", d.limits},
		{"hash_key_file", func(v value) { n.HashKeyFile = d.absoluteFile(v, "/etc/naru/hash.key") }},
	})
}

// workers reads a number of workers; auto is 0.
func (d *decoder) workers(v value) int {
	if s, _ := d.scalarText(v); s == "auto" {
		return 0
	}
	if _, isNumber := v.node.(*ast.IntegerNode); !isNumber {
		d.fail(v.path, fmt.Sprintf("write auto or a whole number from 1 to %d", maxWorkers), "%s", notA(v.node, "a number"))
		return 0
	}
	n, _ := d.integer(v, 1, maxWorkers)
	return n
}

func (d *decoder) admin(v value) {
	d.mapping(v, append([]field{
		{"socket", func(v value) { d.cfg.Admin.Socket = d.socketPath(v) }},
	}, later("http")...))
}

func (d *decoder) interfaces(v value) {
	d.list(v, `"- {name: eth0, side: client}" lines`, func(_ int, v value) {
		var i Interface
		if d.mapping(v, []field{
			{"name", func(v value) { i.Name = d.interfaceName(v) }},
			{"side", func(v value) { set(&i.Side)(d.oneOf(v, sides...)) }},
		}) {
			d.need(v, "name", `write "name: eth0"`)
			d.need(v, "side", `write "side: client", "side: backend" or "side: both"`)
		}
		d.cfg.Interfaces = append(d.cfg.Interfaces, i)
	})
}

func (d *decoder) defaultValues(v value) {
	f := &d.defaults
	d.mapping(v, append([]field{
		{"scheduler", func(v value) { set(&f.scheduler)(d.scheduler(v)) }},
		{"reject", func(v value) { set(&f.reject)(d.oneOf(v, rejects...)) }},
		{"midstream", func(v value) { set(&f.midstream)(d.oneOf(v, midstreams...)) }},
		{"timeouts", func(v value) { d.timeouts(v, &f.timeouts) }},
		{"health", func(v value) { d.health(v, &f.health, true) }},
		{"on_idle", func(v value) { set(&f.onIdle)(d.oneOf(v, onIdles...)) }},
		{"on_backend_down", func(v value) { d.onBackendDown(v, &f.onBackendDown) }},
	}, d.defaultChoiceFields(&f.choice)...))
}

// scheduler reads the short or the long name of a scheduler and returns the short one.
func (d *decoder) scheduler(v value) (string, bool) {
	s, ok := d.scalarText(v)
	if kind, known := sched.Parse(s); ok && known {
		return kind.String(), true
	}
	for _, name := range laterSchedulers {
		if s == name {
			d.fail(v.path, "use one of "+listed(sched.Names()), "scheduler %q is not available in this version of naru", s)
			return "", false
		}
	}
	return d.among(v, sched.Names(), sched.AllNames())
}

// timeouts reads idle times on top of those that t has.
func (d *decoder) timeouts(v value, t *Timeouts) {
	read := func(p *time.Duration) func(value) {
		return func(v value) { set(p)(d.duration(v, minTimeout, maxTimeout)) }
	}
	d.mapping(v, []field{
		{"tcp_syn", read(&t.TCPSyn)},
		{"tcp_established", read(&t.TCPEstablished)},
		{"tcp_closing", read(&t.TCPClosing)},
		{"udp", read(&t.UDP)},
		{"udp_unreplied", read(&t.UDPUnreplied)},
		{"icmp", d.noEffect},
	})
	d.checkOrder(v.path, "tcp_syn", t.TCPSyn, "tcp_established", t.TCPEstablished)
	d.checkOrder(v.path, "udp_unreplied", t.UDPUnreplied, "udp", t.UDP)
}

// checkOrder warns of a timeout for unproven connections that is longer than the one for proven ones.
func (d *decoder) checkOrder(path, short string, a time.Duration, long string, b time.Duration) {
	if a <= b {
		return
	}
	at := join(path, short)
	if _, ok := d.keys[at]; !ok {
		at = join(path, long)
	}
	d.warn(at, fmt.Sprintf("make %s shorter or %s longer", short, long),
		"%s (%s) is longer than %s (%s)", short, printDuration(a), long, printDuration(b))
}

func (d *decoder) vips(v value) {
	d.list(v, `"- {address: 192.0.2.1, owner: naru}" lines`, func(_ int, v value) {
		vip := VIP{Owner: "naru", Reject: d.defaults.reject}
		if d.mapping(v, []field{
			{"address", func(v value) { vip.Address = d.address(v, addressRule{}) }},
			{"owner", func(v value) { set(&vip.Owner)(d.oneOf(v, owners...)) }},
			{"reject", func(v value) { set(&vip.Reject)(d.oneOf(v, rejects...)) }},
			{"echo", func(v value) { set(&vip.Echo)(d.oneOf(v, echoes...)) }},
		}) {
			d.need(v, "address", `write "address: 192.0.2.1"`)
			d.checkEcho(join(v.path, "echo"), &vip)
		}
		d.cfg.VIPs = append(d.cfg.VIPs, vip)
	})
}

// checkEcho holds that whoever is to answer an echo request can, and fills in who does.
func (d *decoder) checkEcho(at string, v *VIP) {
	shared := v.Owner == "shared"
	switch {
	case v.Echo == "" && shared:
		v.Echo = "pass"
	case v.Echo == "":
		v.Echo = "answer"
	case shared && v.Echo != "pass":
		d.fail(at, "remove it, or use owner: naru", "%s has no effect with owner: shared; the kernel answers", v.Echo)
	case !shared && v.Echo == "pass":
		d.warn(at, "write drop to say so, answer to let naru answer, or use owner: shared",
			"nobody answers: this kernel does not hold an address with owner: naru")
	}
}

func (d *decoder) neighbors(v value) {
	d.list(v, `"- {address: 192.0.2.1, mac: \"02:00:00:00:00:01\", interface: eth0}" lines`, func(_ int, v value) {
		var n Neighbor
		if d.mapping(v, []field{
			{"address", func(v value) { n.Address = d.address(v, addressRule{linkLocal: true}) }},
			{"mac", func(v value) { n.MAC = d.mac(v) }},
			{"interface", func(v value) { n.Interface = d.interfaceName(v) }},
		}) {
			d.need(v, "address", `write "address: 192.0.2.1"`)
			d.need(v, "mac", `write "mac: \"02:00:00:00:00:01\""`)
			d.need(v, "interface", `write "interface: eth0", one of "interfaces"`)
		}
		d.cfg.Neighbors = append(d.cfg.Neighbors, n)
	})
}
