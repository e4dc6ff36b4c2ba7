package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"naru/internal/config"
)

// readConfig returns the text of a configuration; "-" is stdin. It reads no more than config.Load takes.
func readConfig(path string, stdin io.Reader) ([]byte, error) {
	if path == "-" {
		return readAll(path, stdin)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	defer f.Close()
	return readAll(path, f)
}

func readAll(path string, r io.Reader) ([]byte, error) {
	src, err := io.ReadAll(io.LimitReader(r, config.MaxSize+1))
	if err != nil {
		return nil, fileError(path, err)
	}
	return src, nil
}

// fileError says what to do about a file that cannot be read.
func fileError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: no such file; write one: naru config example > naru.yaml", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: permission denied; make it readable for this user", path)
	case errors.Is(err, syscall.EISDIR):
		return fmt.Errorf("%s: is a directory; name the file in it", path)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// captureError says what to do about a capture that cannot be read.
func captureError(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: no such file; name a capture, or - for standard input", path)
	}
	return fileError(path, err)
}

// loadConfig reads and checks a configuration for a command that goes on with it. Problems are printed to stderr, and
// the error says no more than that there are some. src is for config.Format.
func loadConfig(path string, stdin io.Reader, stderr io.Writer) (cfg *config.Config, src []byte, err error) {
	src, err = readConfig(path, stdin)
	if err != nil {
		return nil, nil, err
	}
	cfg, problems, err := parseConfig(path, src)
	if invalid := (*config.InvalidError)(nil); errors.As(err, &invalid) {
		problems, err = invalid.Problems, withCode(exitConfig, nil)
	}
	printProblems(stderr, problems, src)
	return cfg, src, err
}

// parseConfig checks a configuration and reads the files with secrets that it names.
func parseConfig(path string, src []byte) (*config.Config, []config.Problem, error) {
	cfg, problems, err := config.Load(path, src)
	if err != nil {
		return nil, nil, err
	}
	if wrong := cfg.ReadSecrets(os.ReadFile); len(wrong) > 0 {
		return nil, nil, &config.InvalidError{Problems: append(problems, wrong...)}
	}
	problems = append(problems, checkSteering(cfg)...)
	if errs, _ := config.Count(problems); errs > 0 {
		return nil, nil, &config.InvalidError{Problems: problems}
	}
	return cfg, problems, nil
}

// printProblems prints problems for people, and how many there are if one of them is an error.
func printProblems(stderr io.Writer, problems []config.Problem, src []byte) {
	fmt.Fprint(stderr, config.Format(problems, src))
	if nerr, nwarn := config.Count(problems); nerr > 0 {
		fmt.Fprintf(stderr, "%s, %s\n", count(nerr, "error"), count(nwarn, "warning"))
	}
}

// count returns a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
