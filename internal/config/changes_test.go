package config

import (
	"slices"
	"strings"
	"testing"
)

func TestChanges(t *testing.T) {
	read := func(text string) *Config {
		cfg, _, err := Load("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	old := read(base)
	for _, tt := range []struct {
		name string
		edit []string // pairs of old and new text
		want []string
	}{
		{"nothing", nil, nil},
		{"a weight", []string{"weight: 3", "weight: 5"}, []string{"~web/b2: weight 3 -> 5"}},
		{"an address", []string{"10.0.0.1}", "10.0.0.9}"}, []string{"~web/b1: address 10.0.0.1 -> 10.0.0.9"}},
		{"a port", []string{"port: 8080", "port: 8081"}, []string{"~web/b2"}},
		{"another name", []string{"name: b1", "name: b3"}, []string{"+backend web/b3", "-backend web/b1"}},
		{"a key of the service", []string{"protocol: tcp", "protocol: tcp\n    reject: drop"}, []string{"~service web"}},
		{"another service", []string{"name: web", "name: www"}, []string{"+service www", "-service web"}},
		{"a VIP", []string{"vip: 192.0.2.10", "vip: 192.0.2.12"}, []string{"~service web", "~vips"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Changes(old, read(strings.NewReplacer(tt.edit...).Replace(base))); !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
