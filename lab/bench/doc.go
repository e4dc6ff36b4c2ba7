// Package bench measures naru beside others that forward the same traffic on the same machine: the kernel's routing,
// nftables, and the proxies that are installed. It is `naru bench`.
//
// Contract: Run builds one network of namespaces a turn (package lab), runs one system in it, drives every metric
// through it and removes it again, so that no system meets what another has left. Systems take turns within a round:
// what disturbs the machine disturbs all of them. Only ratios of one run mean anything; Report judges from the spread
// of the rounds whether they do. All ends are threads of the calling process with sockets in the namespaces: a sender
// on packet sockets, and clients and servers on epoll, so that no other program is needed and the ends cost every
// system the same. Offloads stay as the kernel sets them; naru and the proxies run with no tuning but what Report
// shows.
//
// It does not measure a real network interface, and it does not replace the tests of what packets become: a figure
// counts only what arrived, and answers that are not what was asked for fail a metric.
package bench
