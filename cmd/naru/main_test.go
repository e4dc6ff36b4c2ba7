package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"naru/internal/config"
)

// naru runs a command line of words.
func naru(stdin, line string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(append([]string{"naru"}, strings.Fields(line)...), strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

// inFolder changes into a new folder with files.
func inFolder(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func example(t *testing.T) string {
	t.Helper()
	text, err := config.Example("fullnat")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// warned is a file that is good but for a warning.
const warned = `version: 1
interfaces: [{name: eth0, side: both}]
services:
  - {name: web, vip: 192.0.2.1, ports: [80], protocol: tcp, mode: fullnat, nat: {source_pool: [10.0.0.9]}, backends: []}
`

const broken = "versoin: 1\nversion: 1\ninterfaces: [{name: eth0, side: both}]\nservices: []\n"

func TestWrongUsageTakesTwoLinesAndExits2(t *testing.T) {
	inFolder(t, nil)
	tests := []struct{ line, want string }{
		{"", "naru: missing argument COMMAND; one of "},
		{"chek naru.yaml", `naru: unknown command "chek"; did you mean "check"?`},
		{"nonsense --config", `naru: unknown command "nonsense"; there are `},
		{"--bogus", "naru: unknown flag --bogus"},
		{"--bogus check", "naru: unknown flag --bogus"},
		{"check naru.yaml --stirct", "naru check: unknown flag --stirct; did you mean --strict?"},
		{"check naru.yaml -x", "naru check: unknown flag -x"},
		{"check -c", "naru check: the flag -c needs a value"},
		{"check a b", `naru check: too many arguments: "b"; it takes one FILE`},
		{"check -c=", "naru check: missing argument FILE; give a file, or - for standard input"},
		{"check --strict=maybe f", `naru check: invalid boolean value "maybe" for -strict: parse error`},
		{"check f -o yaml", `naru check: "yaml" is not a format of --output; use table or json`},
		{"-o yaml check f", `naru check: "yaml" is not a format of --output; use table or json`},
		{"config", "naru config: missing argument COMMAND; one of example"},
		{"config exmaple", `naru config: unknown command "exmaple"; did you mean "example"?`},
		{"config example a b", `naru config example: too many arguments: "b"; it takes one MODE`},
		{"config example fulnat", `naru config example: unknown mode "fulnat"; use one of fullnat`},
		{"config example l3dsr", `naru config example: unknown mode "l3dsr"; use one of fullnat, nat, l2dsr, l3dsr-dscp, `},
		{"version now", `naru version: too many arguments: "now"; it takes none`},
		{"-q version", "naru version: unknown flag -q"},
	}
	for _, test := range tests {
		t.Run(test.line, func(t *testing.T) {
			code, stdout, stderr := naru("", test.line)
			lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
			command, _, _ := strings.Cut(test.want, ":")
			if code != exitUsage || stdout != "" || len(lines) != 2 || lines[1] != "see "+command+" --help" {
				t.Errorf("exit %d, out %q, err %q", code, stdout, stderr)
			}
			if !strings.HasPrefix(lines[0], test.want) {
				t.Errorf("got %s, want %s", lines[0], test.want)
			}
		})
	}
}

func TestHiddenCommandsAreNotOffered(t *testing.T) {
	_, _, stderr := naru("", "lab nonsense")
	if !strings.Contains(stderr, "there are list, up, ") || strings.Contains(stderr, "node-") {
		t.Error(stderr)
	}
}

func TestCheck(t *testing.T) {
	inFolder(t, map[string]string{"good.yaml": example(t), "warned.yaml": warned, "broken.yaml": broken})
	if err := os.Mkdir("folder", 0o700); err != nil {
		t.Fatal(err)
	}
	const (
		warning = "warned.yaml:4:118: warning: services[0].backends: service web has no backends; " +
			"it refuses every connection\n"
		failure = "broken.yaml:1:1: versoin: unknown field (did you mean \"version\"?)\n"
		ok      = "good.yaml: ok (1 service, 3 backends, 0 warnings)\n"
	)
	tests := []struct {
		line, stdin    string
		code           int
		stdout, stderr string // stderr: how it begins
	}{
		{"check good.yaml", "", 0, ok, ""},
		{"check -c good.yaml", "", 0, ok, ""},
		{"-c good.yaml check", "", 0, ok, ""},
		{"check good.yaml -c other.yaml", "", 0, ok, ""},
		{"check good.yaml -q", "", 0, "", ""},
		{"check -", example(t), 0, "-: ok (1 service, 3 backends, 0 warnings)\n", ""},
		{"check warned.yaml", "", 0, "warned.yaml: ok (1 service, 0 backends, 1 warning)\n", warning},
		{"check warned.yaml --quiet", "", 0, "", ""},
		{"check warned.yaml --strict", "", 3, "", strings.Replace(warning, "warning: ", "", 1)},
		{"check broken.yaml", "", 3, "", failure + "> 1 | versoin: 1\n      ^\n"},
		{"check -q broken.yaml", "", 3, "", failure},
		{"check -", broken, 3, "", strings.Replace(failure, "broken.yaml", "-", 1)},
		{"check missing.yaml", "", 1, "",
			"naru check: missing.yaml: no such file; write one: naru config example > naru.yaml\n"},
		{"check -q -", strings.Replace(example(t), "workers: auto", "workers: 2", 1), 0, "", ""},
		{"check folder", "", 1, "", "naru check: folder: is a directory; name the file in it\n"},
		{"check good.yaml/x", "", 1, "", "naru check: good.yaml/x: "},
		{"check /dev/zero", "", 3, "", "/dev/zero: the file is larger than 1024 KiB\n"},
	}
	for _, test := range tests {
		t.Run(test.line, func(t *testing.T) {
			code, stdout, stderr := naru(test.stdin, test.line)
			if code != test.code || stdout != test.stdout {
				t.Errorf("exit %d, want %d; out %q, want %q", code, test.code, stdout, test.stdout)
			}
			if !strings.HasPrefix(stderr, test.stderr) || (stderr == "") != (test.stderr == "") {
				t.Errorf("err %q, want %q", stderr, test.stderr)
			}
		})
	}
	if _, _, stderr := naru("", "check broken.yaml"); !strings.HasSuffix(stderr, "\n1 error, 1 warning\n") {
		t.Errorf("no sum: %q", stderr)
	}
}

func TestCheckAsJSON(t *testing.T) {
	inFolder(t, map[string]string{"broken.yaml": broken, "good.yaml": example(t)})
	code, stdout, stderr := naru("", "check broken.yaml -o json")
	var doc checkResult
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil || stderr != "" || code != exitConfig {
		t.Fatal(code, err, stderr, stdout)
	}
	p := doc.Problems[0]
	if doc.Kind != "Check" || doc.APIVersion != "naru/v1" || doc.OK || doc.Errors != 1 || doc.Warnings != 1 {
		t.Errorf("%+v", doc)
	}
	if p != (checkProblem{"error", 1, 1, "versoin", `unknown field (did you mean "version"?)`, ""}) {
		t.Errorf("%+v", p)
	}
	code, stdout, _ = naru("", "check good.yaml -o json")
	if code != 0 || !strings.Contains(stdout, `"problems": []`) || !strings.Contains(stdout, `"backends": 3`) {
		t.Error(code, stdout)
	}
}

func TestAnExampleIsAGoodConfiguration(t *testing.T) {
	for _, line := range []string{"config example", "config example fullnat"} {
		code, text, stderr := naru("", line)
		if code != 0 || stderr != "" {
			t.Fatal(code, stderr)
		}
		if code, _, stderr := naru(text, "check --strict -"); code != 0 {
			t.Error(stderr)
		}
	}
}

func TestAFileForRecordsThatCannotBeMadeIsNoConfiguration(t *testing.T) {
	inFolder(t, map[string]string{"good.yaml": example(t)})
	code, _, stderr := naru("", "run -c good.yaml --record nowhere/records.txt")
	want := "naru run: --record: open nowhere/records.txt: no such file or directory\n"
	if code != exitFailed || stderr != want {
		t.Errorf("exit %d, err %q, want %q", code, stderr, want)
	}
}

func TestFlagsComeFromTheEnvironment(t *testing.T) {
	inFolder(t, map[string]string{"warned.yaml": warned})
	t.Setenv("NARU_CONFIG", "warned.yaml")
	t.Setenv("NARU_STRICT", "true")
	t.Setenv("NARU_OUTPUT", "json")
	if code, stdout, _ := naru("", "check"); code != exitConfig || !strings.Contains(stdout, `"severity": "error"`) {
		t.Error(code, stdout)
	}
	if code, stdout, _ := naru("", "check --strict=false -o table"); code != 0 || !strings.Contains(stdout, "ok") {
		t.Error(code, stdout)
	}
	t.Setenv("NARU_STRICT", "perhaps")
	if code, _, stderr := naru("", "check"); code != exitUsage || !strings.Contains(stderr, "NARU_STRICT") {
		t.Error(code, stderr)
	}
}

func TestVersion(t *testing.T) {
	version = "1.2.3"
	t.Cleanup(func() { version = "" })
	for _, line := range []string{"version", "-V", "--version", "-V check nothing"} {
		if code, stdout, _ := naru("", line); code != 0 || !strings.HasPrefix(stdout, "naru 1.2.3 (commit ") {
			t.Error(line, code, stdout)
		}
	}
	code, stdout, _ := naru("", "version -o json")
	var b build
	if err := json.Unmarshal([]byte(stdout), &b); err != nil || code != 0 || b.Version != "1.2.3" || b.Go == "" {
		t.Error(code, err, stdout)
	}
}

func TestHelpGoesToStandardOutputWhenAsked(t *testing.T) {
	for _, line := range []string{
		"-h", "--help", "help", "help check", "check --help", "check x -h", "help config example",
	} {
		code, stdout, stderr := naru("", line)
		if code != 0 || !strings.HasPrefix(stdout, "NAME:\n   naru") || stderr != "" {
			t.Errorf("%s: exit %d, out %.80q, err %q", line, code, stdout, stderr)
		}
	}
}

// walk visits every command below.
func walk(path string, commands []*cli.Command, visit func(path string, cmd *cli.Command)) {
	for _, cmd := range commands {
		at := path + " " + cmd.Name
		visit(at, cmd)
		walk(at, cmd.Subcommands, visit)
	}
}

func TestEveryCommandSaysWhatItDoes(t *testing.T) {
	names := map[string]bool{}
	walk("naru", commands(), func(path string, cmd *cli.Command) {
		if cmd.Usage == "" || cmd.Category == "" || !strings.Contains(cmd.Description, path) {
			t.Errorf("%s: usage %q, category %q, or no example in the description", path, cmd.Usage, cmd.Category)
		}
		if names[path] {
			t.Errorf("%s: twice", path)
		}
		names[path] = true
		if cmd.Action == nil && len(cmd.Subcommands) == 0 {
			t.Errorf("%s: does nothing", path)
		}
		for _, f := range cmd.Flags {
			checkFlag(t, path, f.Names()[0], f.(cli.DocGenerationFlag))
		}
	})
}

// checkFlag holds that a flag is explained, and that one of the global flags can be set by the environment.
func checkFlag(t *testing.T, path, name string, f cli.DocGenerationFlag) {
	t.Helper()
	if f.GetUsage() == "" {
		t.Errorf("%s: --%s has no usage", path, name)
	}
	env := "NARU_" + strings.ToUpper(name)
	if slices.Contains(flagNames(globalFlags()), name) && !slices.Contains(f.GetEnvVars(), env) {
		t.Errorf("%s: --%s is not set by %s", path, name, env)
	}
}

func TestReport(t *testing.T) {
	inner := errors.New("no answer\nfrom there")
	tests := []struct {
		name string
		err  error
		code int
		want string
	}{
		{"no error", nil, 0, ""},
		{"an error that says no more", errors.New("broken"), exitFailed, "naru: broken\n"},
		{"an error of a command", &commandError{"naru run", inner}, exitFailed, "naru run: no answer from there\n"},
		{"an error with a code", &commandError{"naru run", withCode(exitPermission, inner)}, exitPermission,
			"naru run: no answer from there\n"},
		{"all is said", &commandError{"naru run", withCode(exitConfig, nil)}, exitConfig, ""},
		{"wrong usage", &commandError{"naru run", usagef("no %s", "way")}, exitUsage,
			"naru run: no way\nsee naru run --help\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var b bytes.Buffer
			if code := report(&b, test.err); code != test.code || b.String() != test.want {
				t.Errorf("exit %d, want %d; %q, want %q", code, test.code, b.String(), test.want)
			}
		})
	}
}

func TestLoadConfigPrintsTheProblems(t *testing.T) {
	inFolder(t, map[string]string{"warned.yaml": warned, "broken.yaml": broken})
	var stderr bytes.Buffer
	cfg, src, err := loadConfig("warned.yaml", nil, &stderr)
	if err != nil || cfg == nil || string(src) != warned || !strings.Contains(stderr.String(), ":4:118: warning: ") {
		t.Error(err, cfg, stderr.String())
	}
	_, _, err = loadConfig("broken.yaml", nil, &stderr)
	if e := (*exitError)(nil); !errors.As(err, &e) || e.code != exitConfig || e.err != nil {
		t.Error(err)
	}
}
