package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"naru/lab"
)

// nginxStream is where Debian and its kin have nginx's stream module, if it is not built in.
const nginxStream = "/usr/lib/nginx/modules/ngx_stream_module.so"

// startProxy runs a proxy on the balancer, which then holds the VIP, with a configuration in a file of the lab.
func startProxy(n *network, file, text string, argv ...string) ([]int, error) {
	if err := n.Do(balancerNode, holdVIP); err != nil {
		return nil, err
	}
	path := filepath.Join(n.Dir(), file)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return nil, err
	}
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, err
	}
	p, err := n.Start(balancerNode, append(append([]string{program}, argv[1:]...), path))
	return pidOf(p), err
}

// startHAProxy runs HAProxy in TCP mode, round robin, with a thread for each CPU.
func startHAProxy(_ context.Context, n *network) ([]int, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "global\n  nbthread %d\n  maxconn 4000\ndefaults\n  mode tcp\n  balance roundrobin\n", runtime.NumCPU())
	b.WriteString("  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n")
	for _, port := range []int{httpPort, bulkPort, echoPort} {
		fmt.Fprintf(&b, "listen p%d\n  bind %s:%d\n", port, vip, port)
		for i, name := range serverNodes {
			fmt.Fprintf(&b, "  server %s %s:%d\n", name, serverAddr(i), port)
		}
	}
	return startProxy(n, "haproxy.cfg", b.String(), "haproxy", "-db", "-f")
}

// startNginx runs nginx with its stream module, round robin, with a worker for each CPU.
func startNginx(_ context.Context, n *network) ([]int, error) {
	var b strings.Builder
	if _, err := os.Stat(nginxStream); err == nil {
		fmt.Fprintf(&b, "load_module %s;\n", nginxStream)
	}
	fmt.Fprintf(&b, "daemon off;\npid %s;\nerror_log stderr;\nworker_processes %d;\n", filepath.Join(n.Dir(), "nginx.pid"),
		runtime.NumCPU())
	b.WriteString("worker_rlimit_nofile 65535;\nevents { worker_connections 16384; }\nstream {\n  proxy_timeout 1m;\n")
	for _, s := range []struct {
		port int
		udp  string
	}{{httpPort, ""}, {bulkPort, ""}, {echoPort, ""}, {echoPort, " udp"}, {floodPort, " udp"}} {
		name := fmt.Sprintf("p%d%s", s.port, strings.TrimSpace(s.udp))
		fmt.Fprintf(&b, "  upstream %s {", name)
		for i := range serverNodes {
			fmt.Fprintf(&b, " server %s:%d;", serverAddr(i), s.port)
		}
		fmt.Fprintf(&b, " }\n  server { listen %s:%d%s; proxy_pass %s; }\n", vip, s.port, s.udp, name)
	}
	b.WriteString("}\n")
	return startProxy(n, "nginx.conf", b.String(), "nginx", "-p", n.Dir(), "-e", "stderr", "-c")
}

// missingProgram says which program is not there.
func missingProgram(name string) string {
	if _, err := exec.LookPath(name); err != nil {
		return name + " is not installed"
	}
	return ""
}

// missingNginx is missingProgram for nginx with its stream module.
func missingNginx() string {
	if why := missingProgram("nginx"); why != "" {
		return why
	}
	if _, err := os.Stat(nginxStream); err == nil {
		return ""
	}
	out, _ := exec.Command("nginx", "-V").CombinedOutput() // what it cannot say, it does not have
	for _, flag := range strings.Fields(string(out)) {
		if flag == "--with-stream" {
			return ""
		}
	}
	return "nginx has no stream module"
}

func pidOf(p lab.Process) []int { return []int{p.PID} }
