package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"naru/forwarder"
	"naru/internal/admin"
	"naru/internal/compile"
	"naru/internal/explain"
	"naru/internal/record"
	"naru/internal/replay"
	"naru/internal/wire"
)

// offlineStart is when a packet that is asked about without a running naru comes in.
const offlineStart = wire.Time(time.Second)

func explainCommand() *cli.Command {
	return &cli.Command{
		Name: "explain", Usage: "tell what naru does with a packet, and why; none is sent", ArgsUsage: "PACKET",
		Description: "naru explain -c naru.yaml 'tcp 10.20.40.80:51000 > 200.100.50.25:80 syn'\n" +
			"naru explain 'udp 10.20.40.80:5000 > 200.100.50.25:53 payload 40 in eth0'     # the running naru's state\n" +
			"naru explain -c naru.yaml -x 'icmp 10.20.40.80 > 200.100.50.25 echo'         # and every byte that changes\n" +
			"naru explain --vip auto --pcap in.pcap --packet 17\n\n" +
			"With -c an engine in memory answers, that knows nothing but the configuration; without, the running naru, of\n" +
			"which nothing changes. docs/explain.md has the words of a packet.",
		Category: "Understand",
		Flags: append([]cli.Flag{
			configFlag(), outputFlag("table", "json"), hexFlag(),
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "with -c and --pcap: make every random choice from `N`"},
			&cli.StringFlag{Name: "flow", Usage: "the next packet of the connection `FLOW`, as f-1a2b3c4d; with --pcap its first " +
				"one, also by number"},
			&cli.StringFlag{Name: "pcap", Usage: "a packet of the capture `FILE`, after those before it"},
			&cli.IntFlag{Name: "packet", Usage: "with --pcap: the `N`th packet, counted from 1 as tshark does"},
			&cli.StringFlag{Name: "vip", Usage: "with --pcap: make the configuration from the capture: `auto`"},
			&cli.StringFlag{Name: "mode", Value: "fullnat",
				Usage: "with --vip auto, forward by `MODE`: " + strings.Join(replay.AutoModes(), ", ")},
			&cli.StringFlag{Name: "backends", Usage: "with --pcap: `WHO` answers for the backends, captured or recorded, as in naru replay"},
		}, clientFlags()...),
		Action: explainAction,
	}
}

func hexFlag() cli.Flag {
	return &cli.BoolFlag{Name: "hex", Aliases: []string{"x"},
		Usage: "show the bytes, those that changed marked, and where each checksum comes from"}
}

func explainAction(c *cli.Context) error {
	words := strings.Join(c.Args().Slice(), " ")
	if c.IsSet("pcap") {
		return explainCapture(c)
	}
	for _, name := range []string{"packet", "vip", "mode", "backends"} {
		if c.IsSet(name) {
			return usagef("--%s is about a capture; name it with --pcap", name)
		}
	}
	switch {
	case c.IsSet("flow") && (words != "" || c.IsSet("config")):
		return usagef("--flow stands instead of PACKET, and asks the running naru, or a capture with --pcap")
	case c.IsSet("flow"):
		return explainLive(c, explain.Question{Flow: c.String("flow")})
	case words == "":
		return usagef("missing argument PACKET, as in 'tcp 10.20.40.80:51000 > 200.100.50.25:80 syn'")
	}
	p, err := explain.Parse(words)
	if err != nil {
		return usagef("%w", err)
	}
	if !c.IsSet("config") {
		return explainLive(c, explain.Question{Packet: words})
	}
	bench, err := offlineBench(c)
	if err != nil {
		return err
	}
	frame, leg, err := p.Frame(&bench.Config)
	if err != nil {
		return usagef("%w", err)
	}
	return printExplanation(c, bench.Ask(offlineStart, frame, leg))
}

// explainLive asks the running naru.
func explainLive(c *cli.Context, q explain.Question) error {
	x := &record.Explanation{}
	if err := ask(c, "POST", admin.Path("explain"), q, x); err != nil {
		if e := (*exitError)(nil); errors.As(err, &e) && e.code == exitNoDaemon {
			return withCode(exitNoDaemon, fmt.Errorf("%w; -c FILE explains without a running naru", err))
		}
		return err
	}
	return printExplanation(c, x)
}

// offlineBench makes an engine for the configuration on a host that is made up.
func offlineBench(c *cli.Context) (*explain.Bench, error) {
	cfg, _, err := loadConfig(c.String("config"), c.App.Reader, c.App.ErrWriter)
	if err != nil {
		return nil, err
	}
	compiled, err := compile.Config(cfg, compile.Offline(cfg))
	if err != nil {
		return nil, err
	}
	var seed forwarder.Seed
	binary.LittleEndian.PutUint64(seed[:], c.Uint64("seed"))
	return explain.NewBench(compiled, seed, 0)
}

func printExplanation(c *cli.Context, x *record.Explanation) error {
	if c.String("output") == "json" {
		e := json.NewEncoder(c.App.Writer)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(x)
	}
	_, err := fmt.Fprint(c.App.Writer, x.Text(c.Bool("hex")))
	return err
}
