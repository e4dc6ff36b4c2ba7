//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"

	"naru/internal/admin"
	"naru/internal/config"
	"naru/internal/director"
	"naru/internal/host"
	"naru/internal/kernel"
)

// openAdmin opens the socket for commands. Without the default one naru runs all the same: to forward matters more, and
// another naru, in another network namespace, may have it. A socket that the file names is asked for. NARU_SOCKET stands for
// the default one, as in the commands that look for it.
func openAdmin(cfg *config.Config, log *slog.Logger) (*admin.Server, error) {
	path := cfg.Admin.Socket
	if other := os.Getenv("NARU_SOCKET"); other != "" && path == config.DefaultSocket {
		path = other
	}
	s, err := admin.Listen(path)
	switch {
	case err == nil:
		log.Debug("listening for commands", "socket", s.Path())
		return s, nil
	case cfg.Admin.Socket == config.DefaultSocket:
		log.Warn("no socket for commands: naru status and the like cannot reach this naru", "error", err,
			"fix", "set admin.socket to a path of its own")
		return nil, nil
	}
	return nil, fmt.Errorf("admin.socket: %w; end the other naru, or name another path", err)
}

// hintsFor returns what the status asks about this host; naru's interfaces do not change while it runs.
func hintsFor(cfg *config.Config) func() []string {
	return func() []string {
		var links []host.Link
		for _, i := range cfg.Interfaces {
			if l, err := net.InterfaceByName(i.Name); err == nil {
				links = append(links, host.Link{Name: l.Name, Index: l.Index})
			}
		}
		return kernel.Hints(os.DirFS("/sys"), links, runtime.NumCPU())
	}
}

// reloader replaces the configuration of a running naru, for SIGHUP and for the socket.
type reloader struct {
	mu   sync.Mutex
	d    *director.Director
	log  *slog.Logger
	path string
}

// serve registers what is about configurations.
func (r *reloader) serve(s *admin.Server) {
	s.Handle("POST /v1/config:check", admin.Write, func(q *http.Request) (any, error) {
		return r.answer(q, func(in admin.ConfigText) (admin.ConfigResult, error) {
			cfg, result, err := r.load(in.Text)
			if err == nil {
				old, _ := r.d.Config()
				result.Changes = config.Changes(old, cfg)
			}
			return result, err
		})
	})
	s.Handle("POST /v1/config:apply", admin.Write, func(q *http.Request) (any, error) {
		return r.answer(q, func(in admin.ConfigText) (admin.ConfigResult, error) { return r.apply(in.Text, in.Reset) })
	})
}

// answer reads a request; an empty one means the file of naru.
func (r *reloader) answer(q *http.Request, do func(admin.ConfigText) (admin.ConfigResult, error)) (any, error) {
	var in admin.ConfigText
	if q.ContentLength != 0 {
		dec := json.NewDecoder(q.Body)
		dec.DisallowUnknownFields()
		if err := dec.Decode(&in); err != nil {
			return nil, &admin.Problem{Status: http.StatusBadRequest, Title: "wrong request", Detail: err.Error()}
		}
	}
	result, err := do(in)
	if err != nil {
		return nil, err
	}
	_, result.Revision = r.d.Config()
	result.Head = admin.NewHead("ConfigResult")
	return result, nil
}

// load reads a configuration: the text, or naru's file if that is empty. The error is a *admin.Problem.
func (r *reloader) load(text string) (*config.Config, admin.ConfigResult, error) {
	result := admin.ConfigResult{File: r.path, Changes: []string{}, Warnings: []admin.Mistake{}}
	src := []byte(text)
	if text != "" {
		result.File = "request"
	} else if r.path == "-" {
		return nil, result, &admin.Problem{Status: http.StatusConflict, Title: "no file",
			Detail: "the configuration came from standard input"}
	} else {
		var err error
		if src, err = readConfig(r.path, nil); err != nil {
			return nil, result, &admin.Problem{Status: http.StatusUnprocessableEntity, Title: "unreadable", Detail: err.Error()}
		}
	}
	cfg, problems, err := parseConfig(result.File, src)
	if invalid := (*config.InvalidError)(nil); errors.As(err, &invalid) {
		return nil, result, &admin.Problem{Status: http.StatusUnprocessableEntity, Title: "invalid configuration",
			Detail: err.Error(), Errors: mistakes(invalid.Problems)}
	}
	result.Warnings = mistakes(problems)
	result.Services = len(cfg.Services)
	for i := range cfg.Services {
		result.Backends += len(cfg.Services[i].Backends)
	}
	return cfg, result, nil
}

func mistakes(problems []config.Problem) []admin.Mistake {
	out := []admin.Mistake{}
	for _, p := range problems {
		out = append(out, admin.Mistake{File: p.File, Path: p.Path, Line: p.Line, Column: p.Col, Message: p.Message, Fix: p.Fix,
			Warning: p.Warning})
	}
	return out
}

// apply replaces the configuration, or says why not. The log says it too.
func (r *reloader) apply(text string, reset bool) (admin.ConfigResult, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	cfg, result, err := r.load(text)
	if err != nil {
		r.d.Refused(err)
		r.refuse(err)
		return result, err
	}
	r.logMistakes(result.Warnings)
	old, _ := r.d.Config()
	if err := r.d.Reload(cfg); err != nil {
		err = reloadProblem(cfg, err)
		r.refuse(err)
		return result, err
	}
	result.Changes = config.Changes(old, cfg)
	if reset {
		err = r.d.Reset()
	}
	r.log.Info("reloaded", "file", result.File, "changes", result.Changes, "services", len(cfg.Services))
	return result, err
}

// reloadProblem says where in the file the host does not fit, or what needs a restart.
func reloadProblem(cfg *config.Config, err error) error {
	p := &admin.Problem{Status: http.StatusConflict, Title: "refused", Detail: err.Error()}
	if host := (*director.HostError)(nil); errors.As(err, &host) {
		p.Title, p.Detail = "this host does not fit the configuration", ""
		for _, h := range host.Problems {
			p.Errors = append(p.Errors, mistakes([]config.Problem{cfg.Problem(h.Path, h.Message, h.Fix)})...)
		}
	}
	return p
}

// refuse logs why a configuration was refused.
func (r *reloader) refuse(err error) {
	if p := (*admin.Problem)(nil); errors.As(err, &p) {
		r.logMistakes(p.Errors)
	}
	r.log.Error("reload refused, the old configuration goes on", "error", strings.ReplaceAll(err.Error(), "\n", "; "))
}

func (r *reloader) logMistakes(all []admin.Mistake) {
	for _, m := range all {
		level := slog.LevelError
		if m.Warning {
			level = slog.LevelWarn
		}
		r.log.Log(context.Background(), level, "configuration", "problem", mistakeText(m))
	}
}
