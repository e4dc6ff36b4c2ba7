// Command naru is a layer-4 load balancer in user space, with its teaching lab and its tools.
//
// Contract: data goes to standard output, everything said about it to standard error; an error is one line with the
// fix; the exit codes are those of exit.go. Flags may stand anywhere in front of "--". A command is one file with a
// constructor and one line in commands.
//
// It holds no logic of its own: the commands assemble the packages and print.
package main

import (
	"io"
	"os"

	"github.com/urfave/cli/v2"
)

func main() { os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr)) }

// run runs one command line, args[0] being the program, and returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := &output{to: stdout}
	app := newApp(stdin, out, stderr)
	err := app.Run(permute(app, args))
	if err == nil {
		err = out.err()
	}
	return report(stderr, err)
}

// commands returns the commands, in the order of the help. Each is new: the library writes into them.
func commands() []*cli.Command {
	return []*cli.Command{
		runCommand(),
		checkCommand(),
		configCommand(),
		explainCommand(),
		traceCommand(),
		captureCommand(),
		dropsCommand(),
		replayCommand(),
		schedCommand(),
		backendCommand(),
		fenceCommand(),
		statusCommand(),
		eventsCommand(),
		drainCommand(),
		readyCommand(),
		disableCommand(),
		weightCommand(),
		reloadCommand(),
		labCommand(),
		benchCommand(),
		versionCommand(),
	}
}

// newApp returns the command tree.
func newApp(stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:            "naru",
		Usage:           "a layer-4 load balancer in user space",
		Description:     "naru config example > naru.yaml    # then edit it\nnaru check naru.yaml",
		Commands:        commands(),
		Flags:           append(globalFlags(), versionFlag()),
		HideHelpCommand: true, // permute turns "help COMMAND" into "COMMAND --help"
		Reader:          stdin,
		Writer:          stdout,
		ErrWriter:       stderr,
		Before:          printVersionIfAsked,
		Action:          noSuchCommand,
		OnUsageError:    flagError,
		ExitErrHandler:  func(*cli.Context, error) {}, // report does it; the library would exit
	}
	app.Action = located(app.Action)
	for _, cmd := range app.Commands {
		prepare(cmd)
	}
	return app
}

// prepare gives a command and those below it what all have in common.
func prepare(cmd *cli.Command) {
	cmd.HideHelpCommand = true
	cmd.OnUsageError = flagError
	if cmd.Action == nil {
		cmd.Action = noSuchCommand
	}
	cmd.Action = located(cmd.Action)
	for _, sub := range cmd.Subcommands {
		prepare(sub)
	}
}
