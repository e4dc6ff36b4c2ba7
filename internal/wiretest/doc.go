// Package wiretest is for tests only: it builds frames by foreign code, and makes network namespaces joined by veth
// pairs that leave nothing behind. What it cannot do fails the test that asked for it.
package wiretest
