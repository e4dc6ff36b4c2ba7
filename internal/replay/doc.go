// Package replay runs captured packets through the engine, in the capture's time.
//
// Contract: no root, no interface, no clock, on any operating system. The same packets, configuration, seed and script
// give the same bytes in every output. The time of the engine is that of the packets; between them it is told the time in
// fixed steps, so that idle times, deadlines and slow start pass as they would live. Memory does not grow with the capture.
//
// The host that the configuration is for is made up, see compile.Offline. Leg says on which leg a packet arrives. Frames
// are taken as if they had been sent to naru: a unicast destination MAC address becomes that of the leg. What is longer
// than the leg's MTU was put together by the capturing host (GRO) and stays a super-frame.
//
// It forwards nothing, does not decide whose packet a packet is, and reads no configuration: a reload is handed to it.
package replay
