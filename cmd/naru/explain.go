package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"naru/forwarder"
	"naru/internal/compile"
	"naru/internal/explain"
	"naru/internal/record"
	"naru/internal/wire"
)

// offlineStart is when a packet that is asked about without a running naru comes in.
const offlineStart = wire.Time(time.Second)

func explainCommand() *cli.Command {
	return &cli.Command{
		Name: "explain", Usage: "tell what naru does with a packet, and why; none is sent", ArgsUsage: "PACKET",
		Description: "naru explain -c naru.yaml 'tcp 10.20.40.80:51000 > 200.100.50.25:80 syn'\n" +
			"naru explain 'udp 10.20.40.80:5000 > 200.100.50.25:53 payload 40 in eth0'     # the running naru's state\n" +
			"naru explain -c naru.yaml -x 'icmp 10.20.40.80 > 200.100.50.25 echo'         # and every byte that changes",
		Flags: []cli.Flag{
			configFlag(), outputFlag("table", "json"), hexFlag(),
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "with -c: make every random choice from `N`"},
		},
		Action: explainAction,
	}
}

func hexFlag() cli.Flag {
	return &cli.BoolFlag{Name: "hex", Aliases: []string{"x"},
		Usage: "show the bytes, those that changed marked, and where each checksum comes from"}
}

func explainAction(c *cli.Context) error {
	if c.NArg() == 0 {
		return usagef("missing argument PACKET, as in 'tcp 10.20.40.80:51000 > 200.100.50.25:80 syn'")
	}
	p, err := explain.Parse(strings.Join(c.Args().Slice(), " "))
	if err != nil {
		return usagef("%w", err)
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
