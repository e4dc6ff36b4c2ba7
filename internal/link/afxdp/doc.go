// Package afxdp drives interfaces by AF_XDP: a BPF program at the interface picks out what is naru's, and the frames move
// through memory that the kernel and naru share, past the kernel's network stack.
//
// Contract: link.Device, but for offloads, which XDP has no words for. A frame with an unfinished checksum is finished
// before it is sent, a super-frame is counted as dropped; nothing of the kind ever arrives. All devices of an Interfaces
// share one memory, so a frame is sent on from where it was received.
//
// What the program does not pick out goes on to the kernel as if naru were not there: no fence is needed. Some of it naru
// must see as well (ARP, ND, ICMP to addresses that it shares): that comes from a second device beside, a tap.
//
// The program is written in BPF assembly and loaded when naru starts; no compiler is needed. A driver that can share its
// own memory does (zero copy), else the kernel copies; where the driver cannot run the program itself, the kernel does
// (generic mode). Zero copy has not been tried: it needs a network card that has it.
//
// It wants Linux 5.10 or later (shared memory between devices), CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF.
//
// AF_XDP: Documentation/networking/af_xdp.rst of the kernel; struct layouts in linux/if_xdp.h.
package afxdp
