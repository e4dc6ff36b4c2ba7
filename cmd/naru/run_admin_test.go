//go:build linux

package main

import (
	"io"
	"log/slog"
	"path/filepath"
	"testing"

	"naru/internal/config"
)

func TestTheEnvironmentNamesTheSocketUnlessTheFileDoes(t *testing.T) {
	other, own := filepath.Join(t.TempDir(), "other.sock"), filepath.Join(t.TempDir(), "own.sock")
	t.Setenv("NARU_SOCKET", other)
	for file, want := range map[string]string{config.DefaultSocket: other, own: own} {
		cfg := &config.Config{Admin: config.Admin{Socket: file}}
		s, err := openAdmin(cfg, slog.New(slog.NewTextHandler(io.Discard, nil)))
		if err != nil || s == nil {
			t.Fatalf("%s: %v", file, err)
		}
		s.Start()
		if s.Path() != want {
			t.Errorf("a file that says %s: it listens at %s, want %s", file, s.Path(), want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
