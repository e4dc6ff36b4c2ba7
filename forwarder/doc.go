// Package forwarder is the engine: a packet and the time come in, a verdict and rewritten packets come out.
//
// # Contract
//
// One goroutine owns an Engine. Process takes a batch of frames, sets the verdict and reason of each and puts the frames
// to send, in the batch's own buffers or the engine's, into an Output; they are valid until the next call of Process or
// Tick. ICMP errors, ARP answers and RSTs are written over the frame that caused them.
//
// Time is an argument and must not run backwards; if it does, it stands still. Every random choice derives from one seed of
// 256 bits. So the same input and the same seed give the same bytes. Process and Tick do a bounded amount of work, allocate
// nothing, take no lock, read no clock and write no log; a snapshot that was swapped in is applied at the start of the next
// call, and that may allocate.
//
// Every packet that came in is counted once, at its final verdict:
//
//	received = transmitted + consumed + passed + Σ drops(reason) + held
//
// With several workers there is one Engine each, over one Exchange; a packet that belongs to another worker is handed over
// to it and gets its verdict there (received + taken over = ... + handed over). TakeOver deals with what others handed over.
//
// # The way of a packet
//
// process.go is the way: parse, whose frame is it, connection, service, translation, next hop. connect.go makes a new
// connection, icmp.go and resolve.go answer and translate what is not TCP or UDP, answer.go writes the errors that naru
// sends, send.go gives a frame its next hop and its MAC addresses. snapshot.go is what a configuration becomes, record.go
// what can be told about one packet.
//
// The package does no I/O and knows neither devices nor YAML. RFC 1812 (routers), RFC 3022 and 5508 (NAT), RFC 1122 3.2.2
// and RFC 4443 2.4 (when no error may be sent), RFC 826, 5227 and 4861 (answers for our own addresses).
package forwarder
