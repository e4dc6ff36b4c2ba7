//go:build race

package conntrack

func init() { raced = true }
