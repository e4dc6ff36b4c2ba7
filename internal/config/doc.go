// Package config turns a configuration file into a validated Config.
//
// Contract: Load reports every mistake of a file at once, each with its line, column, path and fix, and never panics,
// whatever the bytes. A Config that it returns is complete (every default filled in) and consistent in itself. The
// YAML library stays behind Load: nothing of it shows in the exported names.
//
// The language is the part of YAML 1.2 (https://yaml.org/spec/1.2.2) that has one meaning: mappings, lists and plain
// or quoted scalars. Anchors, aliases, merge keys, tags, directives, keys given twice and several documents are
// mistakes. Numbers are decimal, durations have units, addresses (RFC 4291, RFC 5952) are never names.
//
// It does not look at the machine: whether an interface exists or the kernel holds an address is for the caller, who
// reports it in the same shape with Config.Problem and Format. It reads no file, no environment and no clock.
package config
