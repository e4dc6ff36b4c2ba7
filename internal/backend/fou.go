package backend

import (
	"encoding/binary"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// guePort asks the kernel to open or close (netlink.FOU_CMD_ADD or FOU_CMD_DEL) the UDP port at which it takes GUE headers
// off. netlink.FouAdd would do, but it names inner protocol 0 too, which kernels refuse with ERANGE since they have learned
// that GUE has none.
func guePort(command uint8, port uint16, family uint8) error {
	fou, err := netlink.GenlFamilyGet(netlink.FOU_GENL_NAME)
	if err != nil {
		return err
	}
	req := nl.NewNetlinkRequest(int(fou.ID), unix.NLM_F_ACK)
	req.AddData(&nl.Genlmsg{Command: command, Version: 1})
	req.AddData(nl.NewRtAttr(netlink.FOU_ATTR_PORT, binary.BigEndian.AppendUint16(nil, port)))
	req.AddData(nl.NewRtAttr(netlink.FOU_ATTR_AF, []byte{family}))
	if command == netlink.FOU_CMD_ADD {
		req.AddData(nl.NewRtAttr(netlink.FOU_ATTR_TYPE, []byte{netlink.FOU_ENCAP_GUE}))
	}
	_, err = req.Execute(unix.NETLINK_GENERIC, 0)
	return err
}
