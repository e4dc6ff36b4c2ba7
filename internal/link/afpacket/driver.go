package afpacket

// Driver says in words how frames are received, for the status: "af_packet ring" or "af_packet mmsg".
func (d *Device) Driver() string {
	if d.ring != nil {
		return "af_packet ring"
	}
	return "af_packet mmsg"
}
