package afxdp

// Driver says in words how frames are moved, for the status: "af_xdp native, copy" and so on.
func (d *Device) Driver() string { return "af_xdp " + d.mode.String() }
