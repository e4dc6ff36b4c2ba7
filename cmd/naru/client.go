package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/urfave/cli/v2"

	"naru/internal/admin"
	"naru/internal/config"
)

// clientFlags are those of every command that talks to a running naru.
func clientFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: "socket", Aliases: []string{"s"}, EnvVars: []string{"NARU_SOCKET"}, Value: config.DefaultSocket,
			Usage: "talk to the naru that listens at `PATH` (its admin.socket)",
		},
		&cli.DurationFlag{
			Name: "timeout", EnvVars: []string{"NARU_TIMEOUT"}, Value: 5 * time.Second,
			Usage: "wait `DURATION` for an answer",
			Action: func(_ *cli.Context, d time.Duration) error {
				if d <= 0 {
					return usagef("--timeout %v is no time; write 5s", d)
				}
				return nil
			},
		},
	}
}

// ask sends a request to the running naru and reads the answer into out.
func ask(c *cli.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
	defer cancel()
	return daemonError(admin.NewClient(c.String("socket")).Do(ctx, method, path, in, out))
}

// daemonError gives what a running naru answered, or did not, its exit code.
func daemonError(err error) error {
	if problem := (*admin.Problem)(nil); errors.As(err, &problem) {
		switch problem.Status {
		case http.StatusForbidden:
			return withCode(exitPermission, err)
		case http.StatusNotFound, http.StatusBadRequest:
			return withCode(exitUsage, errors.New(problem.Detail))
		}
		return err
	}
	gone := (*admin.UnreachableError)(nil)
	switch {
	case !errors.As(err, &gone):
		return err
	case errors.Is(err, os.ErrPermission):
		return withCode(exitPermission, fmt.Errorf("%s: permission denied; be root or in group %s", gone.Path, admin.WriteGroup))
	case errors.Is(err, os.ErrNotExist):
		return withCode(exitNoDaemon, fmt.Errorf("no naru runs with the socket %s; start it with naru run, or name its socket "+
			"with --socket", gone.Path))
	}
	return withCode(exitNoDaemon, err)
}

// printDocument prints a document as JSON or YAML.
func printDocument(w io.Writer, format string, document any) error {
	text, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return err
	}
	if format == "yaml" {
		if text, err = yaml.JSONToYAML(text); err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}

// human prints a number in three or four characters, as 31.2k.
func human(n float64) string {
	for _, unit := range []string{"", "k", "M", "G", "T"} {
		switch {
		case n < 10 && unit == "" && n != float64(int64(n)):
			return fmt.Sprintf("%.1f", n)
		case n < 999.5 && (unit == "" || n >= 99.95):
			return fmt.Sprintf("%.0f%s", n, unit)
		case n < 999.5:
			return fmt.Sprintf("%.1f%s", n, unit)
		}
		n /= 1000
	}
	return fmt.Sprintf("%.0fP", n)
}

// age prints a time in its two largest units, as 3d4h or 1m40s.
func age(seconds float64) string {
	s := int64(seconds + 0.5)
	units := []struct {
		name string
		size int64
	}{{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}}
	for i, u := range units {
		if s < u.size {
			continue
		}
		text := fmt.Sprintf("%d%s", s/u.size, u.name)
		if rest := s % u.size; i+1 < len(units) && rest >= units[i+1].size {
			text += fmt.Sprintf("%d%s", rest/units[i+1].size, units[i+1].name)
		}
		return text
	}
	return "0s"
}

// seconds turns the seconds of a document into a duration.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
