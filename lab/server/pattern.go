package server

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
)

// patternSeed makes the bytes the same for ever and everywhere.
var patternSeed = [32]byte([]byte("naru lab: the same bytes, always"))

// Pattern returns the first n bytes of a fixed stream that looks random, so that a byte that is lost, doubled or moved
// changes the sum.
func Pattern(n int64) io.Reader { return io.LimitReader(rand.NewChaCha8(patternSeed), n) }

// PatternSum returns the SHA-256 of the first n bytes of Pattern.
func PatternSum(n int64) [sha256.Size]byte {
	hash := sha256.New()
	_, _ = io.Copy(hash, Pattern(n)) // neither end can fail
	return [sha256.Size]byte(hash.Sum(nil))
}
