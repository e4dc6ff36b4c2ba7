// Package proxies compares the schedulers with HAProxy and nginx, which run in a network namespace of the test: for the same
// connections it compares which server gets each, and holds what docs/oracles.md says of them.
//
// It has tests only. They need root, and the programs; without them they are skipped, or fail when NARU_REQUIRE lists root
// or proxies. Bytes are not compared: proxies end connections, naru does not.
package proxies
