// Package admin is the way to talk to a running naru: JSON over HTTP on a unix socket, a server and a client.
//
// Contract: a document has "kind" and "apiVersion", its keys are stable and snake_case, durations are numbers of
// seconds, times RFC 3339 in UTC. An error is a Problem (RFC 9457). Who may do what is decided by the credentials of the
// peer, which the kernel tells (unix(7), SO_PEERCRED): root, naru's own user and the group naru may change things, the
// group naru-ro may look. The sizes of what a peer sends, the time that it takes and the number of its connections are
// bounded, so that a hostile one cannot hold naru up.
//
// It does not know what a service is: the director registers what it answers. It opens no network port.
package admin
