package main

import (
	"naru/internal/link"
	"naru/internal/link/afpacket"
)

// openSender opens an interface to send into.
func openSender(name string) (link.Device, error) {
	d, err := afpacket.Open(name, afpacket.Options{Driver: afpacket.MMsg})
	if err != nil {
		return nil, kernelError(err)
	}
	return d, nil
}
