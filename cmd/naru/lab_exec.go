//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"naru/lab"
	"naru/lab/server"
)

func labExecCommand() *cli.Command {
	return &cli.Command{
		Name:      "exec",
		Usage:     "run a program in a node",
		ArgsUsage: "[--name NAME] NODE [--] COMMAND [ARGUMENT...]",
		Description: "naru lab exec client -- curl -s http://www.naru.test/\n\n" +
			"The program has this terminal, its exit code is the command's. Names resolve as in the node.",
		SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			name, node, argv, err := execArgs(c.Args().Slice())
			if errors.Is(err, errHelp) {
				return cli.ShowSubcommandHelp(c)
			}
			if err != nil {
				return usagef("%v", err)
			}
			if err := needRoot(); err != nil {
				return err
			}
			l, err := lab.Open(name)
			if err != nil {
				return labError(c.Context, err)
			}
			return execError(l.Exec(node, argv))
		},
	}
}

// execError gives a program that could not be started the exit code that shells give it.
func execError(err error) error {
	code := exitFailed
	switch {
	case errors.Is(err, exec.ErrNotFound):
		code = 127
	case errors.Is(err, os.ErrPermission):
		code = 126
	}
	return withCode(code, plain(err))
}

var errHelp = errors.New("help is asked for")

// execArgs takes the arguments of lab exec apart. Everything from the command on belongs to the command.
func execArgs(args []string) (name, node string, argv []string, err error) {
	name = os.Getenv("NARU_LAB")
	for len(args) > 0 && strings.HasPrefix(args[0], "-") && args[0] != "--" {
		switch flag := args[0]; {
		case flag == "-h" || flag == "--help":
			return "", "", nil, errHelp
		case flag == "--name" && len(args) > 1:
			name, args = args[1], args[2:]
		case strings.HasPrefix(flag, "--name="):
			name, args = strings.TrimPrefix(flag, "--name="), args[1:]
		default:
			return "", "", nil, fmt.Errorf("flag %s is unknown or lacks its value", flag)
		}
	}
	if len(args) == 0 || args[0] == "--" {
		return "", "", nil, errors.New("NODE is missing, such as client")
	}
	node, args = args[0], args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return "", "", nil, errors.New("COMMAND is missing")
	}
	return name, node, args, nil
}

func labGetCommand() *cli.Command {
	return &cli.Command{
		Name:        "get",
		Usage:       "fetch a page in a node with the built-in HTTP client",
		ArgsUsage:   "[URL]",
		Description: "naru lab get -n 10 http://www.naru.test/",
		Flags: append([]cli.Flag{labNameFlag(),
			&cli.StringFlag{Name: "node", Value: "client", Usage: "fetch from `NODE`"}}, getFlags()...),
		Action: func(c *cli.Context) error {
			if err := needRoot(); err != nil {
				return err
			}
			l, err := lab.Open(c.String("name"))
			if err != nil {
				return labError(c.Context, err)
			}
			exe, err := os.Executable()
			if err != nil {
				return labError(c.Context, err)
			}
			argv := []string{exe, "lab", "node-get", fmt.Sprintf("--count=%d", c.Int("count")),
				fmt.Sprintf("--ipv6=%t", c.Bool("ipv6")), getURL(c)}
			return execError(l.Exec(c.String("node"), argv))
		},
	}
}

// getFlags are the flags of the built-in HTTP client.
func getFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "count", Aliases: []string{"n"}, Value: 1, Usage: "fetch `N` times, with a connection each"},
		&cli.BoolFlag{Name: "ipv6", Aliases: []string{"6"}, Usage: "over IPv6"},
	}
}

func getURL(c *cli.Context) string {
	if c.NArg() == 0 {
		return "http://www.naru.test/"
	}
	return c.Args().First()
}

// labNodeGetCommand is the built-in HTTP client, which runs in a node.
func labNodeGetCommand() *cli.Command {
	return &cli.Command{
		Name:        "node-get",
		Hidden:      true,
		Usage:       "fetch a page from where this runs",
		ArgsUsage:   "URL",
		Description: "naru lab exec client -- naru lab node-get http://www.naru.test/",
		Flags:       getFlags(),
		Action: func(c *cli.Context) error {
			network := "tcp4"
			if c.Bool("ipv6") {
				network = "tcp6"
			}
			client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
				DisableKeepAlives: true,
				DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, address)
				},
			}}
			for range c.Int("count") {
				resp, err := client.Get(getURL(c))
				if err != nil {
					return withCode(exitFailed, err)
				}
				_, err = io.Copy(c.App.Writer, resp.Body)
				resp.Body.Close()
				if err != nil {
					return withCode(exitFailed, err)
				}
			}
			return nil
		},
	}
}

// labNodeServeCommand is the process that a lab runs in its server nodes. It writes a byte to descriptor 3, which the
// lab has opened, when it serves.
func labNodeServeCommand() *cli.Command {
	return &cli.Command{
		Name:        "node-serve",
		Hidden:      true,
		Usage:       "run the built-in servers where this runs",
		Description: "naru lab node-serve --name server01 3>/dev/null",
		Flags:       []cli.Flag{&cli.StringFlag{Name: "name", Required: true, Usage: "answer as `NAME`"}},
		Action: func(c *cli.Context) error {
			ctx, cancel := interruptible()
			defer cancel()
			err := server.Run(ctx, c.String("name"), func() {
				ready := os.NewFile(3, "ready")
				_, _ = ready.Write([]byte{'\n'}) // nobody waits: started by hand
				ready.Close()
			})
			if err != nil {
				return labError(c.Context, err)
			}
			return nil
		},
	}
}
