package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// version is set by the linker (-X main.version=1.2.3); if it is not, the build says what it knows.
var version string

// build is the JSON document of version.
type build struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
	Version    string `json:"version"`
	Commit     string `json:"commit"`
	CommitTime string `json:"commit_time"`
	Modified   bool   `json:"modified"`
	Go         string `json:"go"`
	Platform   string `json:"platform"`
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:        "version",
		Usage:       "print what this program was built from",
		Category:    "Other",
		Description: "naru version -o json",
		Flags:       []cli.Flag{outputFlag("table", "json")},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("too many arguments: %q; it takes none", c.Args().First())
			}
			b := thisBuild()
			if c.String("output") != "json" {
				return b.print(c.App.Writer)
			}
			e := json.NewEncoder(c.App.Writer)
			e.SetIndent("", "  ")
			return e.Encode(b)
		},
	}
}

func versionFlag() cli.Flag {
	return &cli.BoolFlag{Name: "version", Aliases: []string{"V"}, Usage: "print the version and end"}
}

// printVersionIfAsked answers the flag -V in front of everything else.
func printVersionIfAsked(c *cli.Context) error {
	if !c.Bool("version") {
		return nil
	}
	if err := thisBuild().print(c.App.Writer); err != nil {
		return err
	}
	return withCode(0, nil)
}

func thisBuild() build {
	b := build{
		Kind: "Version", APIVersion: "naru/v1", Version: version,
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.CommitTime = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func (b build) print(w io.Writer) error {
	const hash = 12 // enough to name a commit
	commit := b.Commit[:min(hash, len(b.Commit))]
	if commit == "" {
		commit = "unknown"
	}
	if b.Modified {
		commit += ", modified"
	}
	_, err := fmt.Fprintf(w, "naru %s (commit %s, %s, %s)\n", b.Version, commit, b.Go, b.Platform)
	return err
}
