package proxies

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"naru/internal/wiretest"
)

// readyPort is a service of its own: it answers when all others can.
const readyPort = 9999

// service is one scheduler with servers, at a port.
type service struct {
	port    int
	balance string // in the proxy's own words
	weights []uint32
}

// program is a proxy.
type program struct {
	name   string
	config func(dir string, list []service) string
	argv   func(dir, file string) []string
}

var programs = []program{
	{"haproxy", haproxyConfig, func(_, file string) []string { return []string{"-db", "-f", file} }},
	{"nginx", nginxConfig, func(dir, file string) []string { return []string{"-p", dir, "-e", "stderr", "-c", file} }},
}

func haproxyConfig(dir string, list []service) string {
	var b strings.Builder
	fmt.Fprintf(&b, "global\n  nbthread 1\n  maxconn 4000\n  stats socket %s mode 600\n", statsSocket(dir))
	b.WriteString("defaults\n  mode tcp\n  timeout connect 1m\n  timeout client 5m\n  timeout server 5m\n")
	for _, s := range list {
		fmt.Fprintf(&b, "listen p%d\n  bind %s\n", s.port, proxyAddr(s.port))
		for line := range strings.SplitSeq(s.balance, ";") {
			fmt.Fprintf(&b, "  %s\n", line)
		}
		for i, w := range s.weights {
			fmt.Fprintf(&b, "  server s%d %s weight %d\n", i, serverAddr(i), w)
		}
	}
	return b.String()
}

// nginxStream is where Debian and its kin have nginx's stream module, if it is not built in.
const nginxStream = "/usr/lib/nginx/modules/ngx_stream_module.so"

func nginxConfig(dir string, list []service) string {
	var b strings.Builder
	if _, err := os.Stat(nginxStream); err == nil {
		fmt.Fprintf(&b, "load_module %s;\n", nginxStream)
	}
	fmt.Fprintf(&b, "daemon off;\nmaster_process off;\npid %s;\nerror_log stderr;\n", filepath.Join(dir, "nginx.pid"))
	b.WriteString("events { worker_connections 4096; }\nstream {\n  proxy_connect_timeout 1m;\n  proxy_timeout 5m;\n")
	for _, s := range list {
		fmt.Fprintf(&b, "  upstream p%d {\n", s.port)
		if s.balance != "" {
			fmt.Fprintf(&b, "    %s;\n", s.balance)
		}
		for i, w := range s.weights {
			fmt.Fprintf(&b, "    server %s weight=%d;\n", serverAddr(i), w)
		}
		fmt.Fprintf(&b, "  }\n  server { listen %s; proxy_pass p%d; }\n", proxyAddr(s.port), s.port)
	}
	b.WriteString("}\n")
	return b.String()
}

// missing says why a program cannot be compared with, empty if it can.
func (p program) missing() string {
	if _, err := exec.LookPath(p.name); err != nil {
		return p.name + " is not installed"
	}
	if _, err := os.Stat(nginxStream); p.name == "nginx" && err != nil {
		out, _ := exec.Command("nginx", "-V").CombinedOutput() // what it cannot say, it does not have
		if !bytes.Contains(out, []byte("--with-stream ")) {
			return "nginx has no stream module"
		}
	}
	return ""
}

// start runs the program in the namespace with services, until the end of the test. balance says them in its words. Where
// it is not installed the test is skipped, or fails when NARU_REQUIRE lists "proxies".
func (r *rig) start(t *testing.T, p program, list []service) (dir string) {
	t.Helper()
	if why := p.missing(); why != "" && wiretest.Required("proxies") {
		t.Fatal(why)
	} else if why != "" {
		t.Skip(why)
	}
	dir = t.TempDir()
	file := filepath.Join(dir, "config")
	all := append(list[:len(list):len(list)], service{port: readyPort, weights: []uint32{1}})
	if err := os.WriteFile(file, []byte(p.config(dir, all)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(p.name, p.argv(dir, file)...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	r.ns.Do(t, func() {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	})
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	})
	r.ns.Do(t, func() {
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			c, err := dial(readyPort, localhost)
			if err == nil {
				c.Close()
				return
			}
			select {
			case err := <-ended:
				ended <- err
				t.Fatalf("%s: %v\n%s", p.name, err, said.String())
			default:
			}
			if time.Now().After(end) {
				t.Fatalf("%s does not answer: %v", p.name, err)
			}
		}
	})
	return dir
}

func statsSocket(dir string) string { return filepath.Join(dir, "stats") }

// awaitForgotten waits until HAProxy counts no connection of a server of a service.
func awaitForgotten(t *testing.T, dir string, port, server int) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		n := haproxySessions(t, dir, port, server)
		if n == "0" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("haproxy counts %s connections of server %d", n, server)
		}
	}
}

// haproxySessions returns the connections that HAProxy counts of a server.
func haproxySessions(t *testing.T, dir string, port, server int) string {
	t.Helper()
	c, err := net.Dial("unix", statsSocket(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("show stat\n")); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(c); lines.Scan(); {
		// "p10000,s1,0,0,4,..." with the present sessions fifth
		words := strings.Split(lines.Text(), ",")
		if len(words) > 4 && words[0] == fmt.Sprintf("p%d", port) && words[1] == fmt.Sprintf("s%d", server) {
			return words[4]
		}
	}
	t.Fatalf("haproxy does not know server %d of port %d", server, port)
	return ""
}
