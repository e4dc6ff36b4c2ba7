package link

// Rings is what the kernel tells about rings that it shares with a device: frames, or times, since the device was opened.
// Names and meaning are those of struct xdp_statistics (linux/if_xdp.h).
type Rings struct {
	RxDropped uint64 // frames for which there was no memory to receive into, or that were too long for it
	RxFull    uint64 // frames that found the receive ring full: we did not keep up
	RxInvalid uint64 // places to receive into that the kernel refused
	FillEmpty uint64 // times that the kernel found no place to receive into
	TxInvalid uint64 // frames to send that the kernel refused
	TxEmpty   uint64 // times that the kernel found nothing to send

	Queues    int // receive queues that the device serves
	QueuesNow int // receive queues that the interface has now; frames of others than those served are lost
}

// Ringed is a device that can tell about its rings. Rings may be called from any goroutine; after Close it returns zeros.
type Ringed interface {
	Rings() Rings
}
