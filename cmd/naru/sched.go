package main

import (
	"fmt"
	"math/bits"
	"strconv"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"naru/internal/admin"
	"naru/internal/config"
	"naru/sched"
)

func schedCommand() *cli.Command {
	return &cli.Command{
		Name: "sched", Usage: "look at schedulers and try them", Category: "Understand",
		Description: "naru sched list\nnaru sched show web\nnaru sched bench newcomer --chart newcomer.svg",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list the schedulers and what each does", Category: "Understand",
				Description: "naru sched list", Flags: []cli.Flag{outputFlag("table", "json")}, Action: schedList,
			},
			{
				Name: "show", Usage: "show how a service is shared out among its backends", ArgsUsage: "SERVICE",
				Category: "Understand",
				Description: "naru sched show web\nnaru sched show web -c naru.yaml --offline\n\n" +
					"Scheduler, hash and table are those of the configuration; weights and states those of the running naru, or\n" +
					"with --offline those of the configuration.",
				Flags: append([]cli.Flag{configFlag(), outputFlag("table", "json"),
					&cli.BoolFlag{Name: "offline", Usage: "ask no running naru"}}, clientFlags()...),
				Action: schedShow,
			},
			schedBenchCommand(),
		},
	}
}

// schedulerLine is one scheduler of the list.
type schedulerLine struct {
	Name   string `json:"name"`
	Long   string `json:"long"`
	Words  string `json:"words"`
	Hashes bool   `json:"hashes"`
}

func schedList(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("unexpected argument %q", c.Args().First())
	}
	var lines []schedulerLine
	for _, name := range sched.Names() {
		k, _ := sched.Parse(name)
		lines = append(lines, schedulerLine{k.String(), k.Long(), k.Words(), k.Hashes()})
	}
	if c.String("output") == "json" {
		return printDocument(c.App.Writer, "json", struct {
			admin.Head
			Schedulers []schedulerLine `json:"schedulers"`
		}{admin.NewHead("Schedulers"), lines})
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tLONG NAME\tCHOOSES")
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t%s\t%s\n", l.Name, l.Long, l.Words)
	}
	return w.Flush()
}

// schedBackend is one backend of sched show.
type schedBackend struct {
	Backend        string  `json:"backend"`
	State          string  `json:"state"`
	Weight         int     `json:"weight"`
	SlowStart      float64 `json:"slow_start"` // the part of its weight that it gets, from 0 to 1
	Backup         bool    `json:"backup"`
	MaxConnections int     `json:"max_connections,omitempty"`
	Share          float64 `json:"share"`           // of new connections, while all have the same load
	Slots          int     `json:"slots,omitempty"` // of mh's table
}

// schedDocument is the document of sched show.
type schedDocument struct {
	admin.Head
	Service   string         `json:"service"`
	Scheduler string         `json:"scheduler"`
	Hash      string         `json:"hash,omitempty"`
	Bounded   float64        `json:"bounded,omitempty"`
	TableSize int            `json:"table_size,omitempty"`
	Live      bool           `json:"live"` // weights and states are those of the running naru
	Backends  []schedBackend `json:"backends"`
}

func schedShow(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef("want one argument, SERVICE")
	}
	cfg, _, err := loadConfig(c.String("config"), c.App.Reader, c.App.ErrWriter)
	if err != nil {
		return err
	}
	for i := range cfg.Services {
		if s := &cfg.Services[i]; s.Name == c.Args().First() {
			return schedShowService(c, cfg, s)
		}
	}
	return usagef("there is no service %s in %s", c.Args().First(), cfg.File)
}

func schedShowService(c *cli.Context, cfg *config.Config, s *config.Service) error {
	d := schedDocument{Head: admin.NewHead("SchedulerShow"), Service: s.Name, Scheduler: s.Scheduler, Live: !c.Bool("offline")}
	kind, _ := sched.Parse(s.Scheduler)
	if kind.Hashes() {
		d.Hash, d.Bounded = s.Hash, s.Bounded
	}
	if kind == sched.MH {
		d.TableSize = s.TableSize
	}
	live := map[string]admin.Backend{}
	if d.Live {
		var doc admin.ServiceDocument
		if err := ask(c, "GET", admin.Path("services", s.Name), nil, &doc); err != nil {
			return err
		}
		for _, b := range doc.Backends {
			live[b.Backend] = b
		}
	}
	for _, b := range s.Backends {
		line := schedBackend{Backend: b.Name, State: "up", Weight: b.Weight, SlowStart: 1, Backup: b.Backup,
			MaxConnections: b.MaxConnections}
		if at, known := live[b.Name]; known {
			line.State, line.Weight, line.SlowStart = at.State, at.Weight, at.SlowStart
		} else if d.Live {
			line.State = "not running"
		} else if b.Weight == 0 {
			line.State = "draining"
		}
		d.Backends = append(d.Backends, line)
	}
	shareOut(&d, kind, cfg.Node.HashKey)
	if c.String("output") == "json" {
		return printDocument(c.App.Writer, "json", d)
	}
	return d.print(c)
}

// shareOut asks the scheduler where hashes lead to: for mh one for each slot of its table, for the others so many that
// shares are exact to 1/10000.
func shareOut(d *schedDocument, kind sched.Kind, key *[16]byte) {
	o := sched.Options{Kind: kind, TableSize: d.TableSize}
	if key != nil {
		o.Key = hashKey(key)
	}
	list := make([]sched.Backend, len(d.Backends))
	primaries := false
	for i, b := range d.Backends {
		list[i] = sched.Backend{Name: b.Backend, Share: uint32(b.SlowStart * sched.ShareAll), Load: new(sched.Load)}
		if b.State == "up" {
			list[i].Weight = uint32(b.Weight)
			primaries = primaries || !b.Backup && b.Weight > 0
		}
	}
	for i := range list {
		if primaries && d.Backends[i].Backup {
			list[i].Weight = 0
		}
	}
	s := sched.New(o, list, nil)
	n := 100000
	if kind == sched.MH {
		n = d.TableSize
	}
	for i := range uint64(n) {
		hash, _ := bits.Div64(i, 0, uint64(n)) // the first hash of slot i, less one
		if b := s.Stateless(hash + 1); b >= 0 {
			d.Backends[b].Share += 1 / float64(n)
			if kind == sched.MH {
				d.Backends[b].Slots++
			}
		}
	}
}

func (d *schedDocument) print(c *cli.Context) error {
	out := c.App.Writer
	fmt.Fprintf(out, "service %s, scheduler %s", d.Service, d.Scheduler)
	if d.Hash != "" {
		fmt.Fprintf(out, ", hash %s", d.Hash)
	}
	if d.Bounded != 0 {
		fmt.Fprintf(out, ", bounded %v", d.Bounded)
	}
	if d.TableSize != 0 {
		fmt.Fprintf(out, ", %d slots", d.TableSize)
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "BACKEND\tSTATE\tWEIGHT\tSLOW START\tSHARE\tSLOTS\tMAX\tBACKUP")
	for _, b := range d.Backends {
		slots, most, backup := "-", "-", "no"
		if d.TableSize != 0 {
			slots = strconv.Itoa(b.Slots)
		}
		if b.MaxConnections != 0 {
			most = strconv.Itoa(b.MaxConnections)
		}
		if b.Backup {
			backup = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%.0f %%\t%.2f %%\t%s\t%s\t%s\n", b.Backend, b.State, b.Weight, 100*b.SlowStart, 100*b.Share,
			slots, most, backup)
	}
	return w.Flush()
}
