//go:build race

package wiretest

// Raced says that the race detector watches, which keeps books on memory that are many times as large.
const Raced = true
