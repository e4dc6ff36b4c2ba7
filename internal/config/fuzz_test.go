package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzLoad holds what Load promises about any bytes: no panic, a Config or an error, problems in the order of the file
// and inside it, and printed lines that steer no terminal.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("*/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal("no files to start from", err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	for _, text := range []string{
		"", base, base + second, "a: &a [*a]\n<<: *a\n", "? {[a]: b}\n: |\n  x\n", "- - - a\n\t%", "'\x00",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		cfg, problems, err := Load("f", src)
		if err != nil {
			invalid := (*InvalidError)(nil)
			if !errors.As(err, &invalid) {
				t.Fatalf("the error is a %T", err)
			}
			problems = invalid.Problems
		}
		errs, _ := Count(problems)
		if (cfg == nil) != (errs > 0) || (err == nil) != (errs == 0) {
			t.Fatalf("cfg %v, %d errors, %v", cfg, errs, err)
		}
		checkProblems(t, problems, src)
		if cfg != nil {
			checkConfig(t, cfg)
		}
	})
}

func checkProblems(t *testing.T, problems []Problem, src []byte) {
	last := Position{}
	for _, p := range problems {
		if p.Line < last.Line || p.Line == last.Line && p.Col < last.Col {
			t.Errorf("%s after %s", p.Position, last)
		}
		last = p.Position
		if p.Line > strings.Count(string(src), "\n")+1 || p.Line > 0 && p.Col < 1 {
			t.Errorf("%s is outside the file", p.Position)
		}
		if strings.ContainsAny(p.String(), "\n\r\x1b") || !utf8.ValidString(p.String()) {
			t.Errorf("not one line of text: %q", p)
		}
		if strings.HasPrefix(p.Message, "cannot read this YAML") {
			t.Errorf("a panic: %s", p)
		}
	}
	if text := Format(problems, src); strings.ContainsAny(text, "\r\x1b\t\x00") || !utf8.ValidString(text) {
		t.Errorf("not text: %q", text)
	}
}

// checkConfig looks for what must hold for everything that a Config says.
func checkConfig(t *testing.T, c *Config) {
	if len(c.Interfaces) == 0 || len(c.VIPs) < min(1, len(c.Services)) || c.Node.Connections < minConnections {
		t.Errorf("incomplete: %+v", c)
	}
	for _, s := range c.Services {
		if s.Name == "" || !s.VIP.IsValid() || len(s.Ports) == 0 || s.Protocol == "" || !slices.Contains(modeNames(), s.Mode) {
			t.Errorf("incomplete: %+v", s)
		}
		if (s.Mode == "fullnat") != (len(s.NAT.SourcePool) > 0) || (s.Mode == "l3dsr") != (s.L3DSR.Encap != "") || s.Scheduler == "" || s.Timeouts.UDP <= 0 {
			t.Errorf("incomplete: %+v", s)
		}
		for _, b := range s.Backends {
			if b.Name == "" || b.Address.Is4() != s.VIP.Is4() && !encaps[s.L3DSR.Encap].outer || b.Weight < 0 || b.Weight > maxWeight {
				t.Errorf("incomplete: %+v", b)
			}
		}
	}
}

func TestHugeAndDeepFilesAreRefusedBeforeTheyCost(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"too large", strings.Repeat("#\n", MaxSize/2+1), "the file is larger than 1024 KiB"},
		{"too many keys", strings.Repeat("a: 1\n", 200000), "a mapping with more than 512 keys"},
		{"too many keys with lists between", strings.Repeat("  a: [\n1]\n", 90000), "a mapping with more than 512 keys"},
		{"deep lists in brackets", strings.Repeat("[", 100000), "nested deeper than 32 levels"},
		{"deep mappings in braces", strings.Repeat("{a: ", 50000), "nested deeper than 32 levels"},
		{"deep lists in one line", strings.Repeat("- ", 100000), "nested deeper than 32 levels"},
		{"deep mappings by indentation", staircase(1000), "nested deeper than 32 levels"},
		{"keys in one line", strings.Repeat("a: ", 150000), "nested deeper than 32 levels"},
		{"anchors", strings.Repeat("&a ", 100000), "anchors are not supported"},
		{"tags", strings.Repeat("!a ", 100000), "tags are not supported"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := Load("f", []byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %.200v, want %s", err, test.want)
			}
		})
	}
}

// staircase returns n mappings, each in the one before.
func staircase(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestALongListOfProblemsIsCutWhenPrinted(t *testing.T) {
	src := []byte("version: 1\nports: 1\n")
	problems := make([]Problem, formatLimit+5)
	for i := range problems {
		problems[i] = Problem{Position: Position{"f", 2, 1}, Message: "wrong"}
	}
	text := Format(problems, src)
	if !strings.HasSuffix(text, "... and 5 more\n") || strings.Count(text, "f:2:1: wrong\n") != formatLimit {
		t.Error(text)
	}
}

func TestALongLineIsMovedSoThatTheCaretShows(t *testing.T) {
	src := []byte(strings.Repeat("0123456789", 30) + "\t\x1b[31m")
	text := Format([]Problem{{Position: Position{"f", 1, 301}, Message: "wrong"}}, src)
	lines := strings.Split(text, "\n")
	if len(lines[1]) > excerptWidth+10 || len(lines[2])-1 != strings.Index(lines[1], "\ufffd[31m")-1 {
		t.Error(text)
	}
}
