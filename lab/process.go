package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a process that a lab started. A pid alone may have become another process's; together with the start time
// it is one process for ever.
type Process struct {
	Node  string `json:"node"`
	Role  string `json:"role"`  // "servers", "naru" or "decap"
	PID   int    `json:"pid"`   //
	Start uint64 `json:"start"` // clock ticks after boot, field 22 of /proc/PID/stat
}

// marker is the environment variable that tells a lab's processes from others, for when the state file is lost.
const marker = "NARU_LAB_PROCESS"

// Names of roles.
const (
	roleServers = "servers"
	roleNaru    = "naru"
	roleDecap   = "decap"
)

// processStart returns the start time of a process and whether it runs; a zombie does not.
func processStart(pid int) (start uint64, running bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	// The second field is the name in brackets and may hold anything; the third, the state, follows the last bracket.
	end := strings.LastIndexByte(string(b), ')')
	if end < 0 {
		return 0, false
	}
	fields := strings.Fields(string(b[end+1:]))
	if len(fields) < 20 {
		return 0, false
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return start, err == nil && fields[0] != "Z" && fields[0] != "X"
}

// self is the calling process.
func self() Process {
	start, _ := processStart(os.Getpid())
	return Process{PID: os.Getpid(), Start: start}
}

// alive reports whether the process still runs.
func (p Process) alive() bool {
	start, running := processStart(p.PID)
	return running && start == p.Start
}

// end asks the process to end and kills it if it has not after the grace time. A process that is gone is no error.
func (p Process) end(grace time.Duration) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil || !p.alive() { // the pidfd is of this very process if it is alive after it was opened
		if err == nil {
			unix.Close(fd)
		}
		return nil
	}
	defer unix.Close(fd)
	for _, step := range []struct {
		signal unix.Signal
		wait   time.Duration
	}{{unix.SIGTERM, grace}, {unix.SIGKILL, 5 * time.Second}} {
		if err := unix.PidfdSendSignal(fd, step.signal, nil, 0); err != nil {
			if errors.Is(err, unix.ESRCH) {
				return nil
			}
			return fmt.Errorf("lab: %s in %s (pid %d): %w", p.Role, p.Node, p.PID, err)
		}
		if waitPidfd(fd, step.wait) {
			return nil
		}
	}
	return fmt.Errorf("lab: %s in %s (pid %d): does not end", p.Role, p.Node, p.PID)
}

// waitPidfd waits until the process has ended and reports whether it did within the time.
func waitPidfd(fd int, limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	for {
		left := time.Until(deadline)
		if left < 0 {
			return false
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if n > 0 {
			return true
		}
		if err != nil && err != unix.EINTR {
			return false
		}
	}
}

// startProcess starts a program in a node as a process of its own session, with its output in a log file of the lab.
// The files become its descriptors from 3 on. It is in the state file before this returns.
func startProcess(l *Lab, node, role string, argv []string, files ...*os.File) (Process, error) {
	log, err := os.OpenFile(l.LogFile(node), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return Process{}, fmt.Errorf("lab: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), marker+"="+l.Name)
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := inNamespace(namespaceName(l.Name, node), cmd.Start); err != nil {
		return Process{}, fmt.Errorf("lab: node %s: %w", node, err)
	}
	go func() { _ = cmd.Wait() }() // reaped; how it ended is in its log
	start, _ := processStart(cmd.Process.Pid)
	p := Process{Node: node, Role: role, PID: cmd.Process.Pid, Start: start}
	l.Processes = append(l.Processes, p)
	return p, l.save()
}

// startServers starts the built-in servers in a node and waits until they serve: they write a byte to a pipe.
func startServers(ctx context.Context, l *Lab, node string) error {
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer read.Close()
	argv := []string{l.exe, "lab", "node-serve", "--name", node}
	p, err := startProcess(l, node, roleServers, argv, write)
	write.Close()
	if err != nil {
		return err
	}
	// A pipe has deadlines; the end of the process ends the pipe.
	stop := context.AfterFunc(ctx, func() { _ = read.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.ReadFull(read, make([]byte, 1)); err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("lab: %s in %s did not start: %s", p.Role, node, l.logTail(node)))
	}
	return nil
}

// leftovers finds processes that carry the lab's mark, also those that no state file tells of.
func leftovers(lab string) []Process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	want := marker + "=" + lab
	var found []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil {
			continue // gone, or not ours to look at
		}
		for _, v := range strings.Split(string(env), "\x00") {
			if start, running := processStart(pid); v == want && running && pid != os.Getpid() {
				found = append(found, Process{Role: "process", Node: lab, PID: pid, Start: start})
			}
		}
	}
	return found
}
