package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"naru/internal/backend"
)

// patient and bystander are two servers: what is wrong with the one may show when the doctor looks at the other.
const (
	patient   = "server01"
	bystander = "server02"
)

// ailment is one thing that a backend can lack, and the sentence that the doctor must have for it.
type ailment struct {
	what        string
	harm        func(*checker) error
	mend        func(*checker) error
	asked       string // whom the doctor is asked about
	check       string // the one check that fails
	text, cause string // what its text and its cause must hold
}

// doctorChecks break one thing at a server after the other. Before and after each the doctor must find nothing.
func doctorChecks(s *Scenario) []check {
	var checks []check
	for _, vip := range s.vips() {
		of := []check{{"the doctor finds nothing wrong", healthy(vip), false}}
		for _, a := range ailments(s.Mode, vip) {
			of = append(of, check{"the doctor says that " + a.what, diagnosed(vip, a), false})
		}
		checks = append(checks, over(vip, of)...)
	}
	return append(checks, check{"naru still runs", stillRuns, true})
}

// ailments are those of a mode.
func ailments(m Mode, vip netip.Addr) []ailment {
	nothing := "nothing, instead of SYN/ACK from " + vip.String()
	missing := ailment{"the VIP is not on lo", takeVIP(vip), setUpPatient, patient, "answer", nothing,
		"the VIP is not on lo at " + patient}
	noDecap := ailment{"decapsulation is missing", stopDecap, resumeDecap, patient, "answer", decapRefusal(m, vip),
		"nothing takes the outer header off at " + patient}
	switch m {
	case ModeNAT:
		return []ailment{{"the default route is not naru", takeDefaultRoute(vip), setUpPatient, patient, "route",
			"no reply to a client elsewhere came back", "the default route of " + patient + " is not "}}
	case ModeDSCP:
		return []ailment{missing, {"the DSCP rule is missing", takeRules(vip), setUpPatient, patient, "answer",
			"SYN/ACK from ", "the DSCP rule is missing at " + patient}}
	case ModeIPIP, ModeGUE:
		return []ailment{missing, noDecap}
	case ModeL2DSR:
		return append([]ailment{missing}, loudAilments(vip)...)
	}
	return nil
}

// decapRefusal is what the kernel says about outer headers that nobody takes off.
func decapRefusal(m Mode, vip netip.Addr) string {
	switch {
	case m == ModeGUE && vip.Is4():
		return "ICMP port unreachable from "
	case m == ModeGUE:
		return "ICMPv6 port unreachable from "
	case vip.Is4():
		return "ICMP protocol unreachable from "
	}
	return "ICMPv6 unrecognized next header from "
}

// loudAilments are those of a server that answers for the VIP: in IPv4 by ARP for what is on lo, in IPv6 only for what
// is on the interface.
func loudAilments(vip netip.Addr) []ailment {
	loud, quiet, check := answerARP, setUpPatient, "arp"
	if vip.Is6() {
		loud, quiet, check = onInterface(vip, netlink.AddrAdd), onInterface(vip, netlink.AddrDel), "nd"
	}
	return []ailment{
		{"the backend answers for the VIP", loud, quiet, patient, check, patient + " answers for " + vip.String(),
			"the VIP on " + patient + " is not silent"},
		{"more than one MAC address answers for the VIP", loud, quiet, bystander, check,
			"more than one machine answers for " + vip.String(), "a backend that is not silent"},
	}
}

// healthy asks about both servers.
func healthy(vip netip.Addr) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		passed := 0
		for _, node := range []string{patient, bystander} {
			err := c.consult(vip, node, func(r backend.Report) error {
				err := well(r)
				if err == nil {
					passed += len(r.Checks)
				}
				return err
			})
			if err != nil {
				return "", fmt.Errorf("%s is as it should be: %w", node, err)
			}
		}
		return fmt.Sprintf("%d checks at %s and %s", passed, patient, bystander), nil
	}
}

// well reports what a report of a healthy backend should not hold.
func well(r backend.Report) error {
	if len(r.Checks) == 0 || r.Failed() > 0 {
		return errors.New(findings(r))
	}
	return nil
}

// diagnosed breaks one thing, reads what the doctor says, mends it, and wants the backend to be healthy again.
func diagnosed(vip netip.Addr, a ailment) func(*checker) (string, error) {
	return func(c *checker) (seen string, err error) {
		err = a.harm(c)
		if err == nil {
			err = c.consult(vip, a.asked, func(r backend.Report) (err error) { seen, err = named(r, a); return err })
		}
		if err := errors.Join(err, a.mend(c)); err != nil {
			return "", err
		}
		if err := c.consult(vip, a.asked, well); err != nil {
			return "", fmt.Errorf("it is mended, and still: %w", err)
		}
		return seen, nil
	}
}

// named reports a diagnosis that is not the ailment's and no other.
func named(r backend.Report, a ailment) (string, error) {
	if r.Failed() == 1 {
		for _, k := range r.Checks {
			if k.Status == backend.Fail && k.Name == a.check && strings.Contains(k.Text, a.text) &&
				strings.Contains(k.Cause, a.cause) && k.Effect != "" && k.Fix != "" {
				return k.Text, nil
			}
		}
	}
	return "", fmt.Errorf("want %s alone, with %q by %q: %s", a.check, a.text, a.cause, findings(r))
}

// findings are the checks of a report that failed.
func findings(r backend.Report) string {
	text := fmt.Sprintf("%d of %d checks failed", r.Failed(), len(r.Checks))
	for _, k := range r.Checks {
		if k.Status == backend.Fail {
			text += fmt.Sprintf("\n%s: %s; cause: %s; fix: %s", k.Name, k.Text, k.Cause, k.Fix)
		}
	}
	return text
}

// exitUnhealthy is naru's exit code when something is wrong with a backend.
const exitUnhealthy = 6

// doctorTimeout is how long the doctor waits for each answer at first: silence is what half of the ailments show.
const doctorTimeout = 500 * time.Millisecond

// consult asks the doctor until the report is the right one, three times at most. A busy machine answers late, which the
// doctor must take for silence: each time it waits longer.
func (c *checker) consult(vip netip.Addr, node string, right func(backend.Report) error) (err error) {
	for wait := doctorTimeout; wait <= 4*doctorTimeout; wait *= 2 {
		var r backend.Report
		if r, err = c.doctor(vip, node, wait); err != nil {
			return err
		}
		if err = right(r); err == nil {
			return nil
		}
	}
	return err
}

// doctor runs naru backend doctor where naru runs. The exit code must be what the report says.
func (c *checker) doctor(vip netip.Addr, node string, wait time.Duration) (r backend.Report, err error) {
	argv := []string{"backend", "doctor", serviceOf("web", vip) + "/" + node, "-o", "json", "-c", c.ConfigFile(),
		"--timeout", wait.String()}
	cmd := exec.CommandContext(c.ctx, c.exe, argv...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), marker+"="+c.Name)
	if err := inNamespace(namespaceName(c.Name, c.scenario.Director), cmd.Start); err != nil {
		return r, fmt.Errorf("lab: node %s: %w", c.scenario.Director, err)
	}
	ended := cmd.Wait()
	code := cmd.ProcessState.ExitCode()
	if code != 0 && code != exitUnhealthy {
		return r, fmt.Errorf("lab: %v: %w: %s", argv, ended, tail(complaint.String()))
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return r, fmt.Errorf("lab: %v: %w", argv, err)
	}
	if failed := r.Failed() > 0; failed != (code == exitUnhealthy) {
		return r, fmt.Errorf("the exit code is %d: %s", code, findings(r))
	}
	return r, nil
}

// setUpPatient does again what naru backend setup does, as the doctor's fixes say.
func setUpPatient(c *checker) error { return c.setUpBackend(c.ctx, patient) }

// takeVIP takes the VIP off lo.
func takeVIP(vip netip.Addr) func(*checker) error {
	return func(c *checker) error {
		return c.Do(patient, func() error {
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return fmt.Errorf("lab: node %s: lo: %w", patient, err)
			}
			addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(vip, vip.BitLen()))}
			if err := netlink.AddrDel(lo, addr); err != nil {
				return fmt.Errorf("lab: node %s: %s from lo: %w", patient, vip, err)
			}
			return nil
		})
	}
}

// onInterface adds the VIP to the server's interface or takes it off again, without asking first whether it is unique.
func onInterface(vip netip.Addr, change func(netlink.Link, *netlink.Addr) error) func(*checker) error {
	return func(c *checker) error {
		name := c.topology.Node(patient).Interfaces[0].Name
		return c.Do(patient, func() error {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return fmt.Errorf("lab: node %s: %s: %w", patient, name, err)
			}
			addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(vip, vip.BitLen())), Flags: unix.IFA_F_NODAD}
			if err := change(l, addr); err != nil {
				return fmt.Errorf("lab: node %s: %s on %s: %w", patient, vip, name, err)
			}
			return nil
		})
	}
}

// answerARP makes the server answer ARP for every address that it has, wherever that is: as Linux does untold.
func answerARP(c *checker) error {
	name := c.topology.Node(patient).Interfaces[0].Name
	return c.Do(patient, func() error {
		for _, conf := range []string{"all", name} {
			for _, key := range []string{"arp_ignore", "arp_announce"} {
				path := filepath.Join("/proc/sys/net/ipv4/conf", conf, key)
				if err := os.WriteFile(path, []byte("0"), 0); err != nil {
					return fmt.Errorf("lab: node %s: %w", patient, err)
				}
			}
		}
		return nil
	})
}

// takeRules takes the rules of every service of the VIP: a mark is not a service's but the VIP's, and one rule would do
// for all. The VIP stays, since each service leaves what others need.
func takeRules(vip netip.Addr) func(*checker) error {
	return func(c *checker) error {
		for _, s := range labServices {
			name := serviceOf(s.name, vip) + "/" + patient
			argv := []string{c.exe, "backend", "undo", name, "--apply", "-c", c.ConfigFile()}
			if err := c.runIn(c.ctx, patient, argv); err != nil {
				return err
			}
		}
		return nil
	}
}

// takeDefaultRoute takes the default route by naru, and leaves the server with its own segment.
func takeDefaultRoute(vip netip.Addr) func(*checker) error {
	return func(c *checker) error {
		return c.Do(patient, func() error {
			routes, err := netlink.RouteList(nil, family(vip))
			if err != nil {
				return fmt.Errorf("lab: node %s: routes: %w", patient, err)
			}
			for _, r := range routes {
				if r.Gw == nil {
					continue
				}
				if err := netlink.RouteDel(&r); err != nil {
					return fmt.Errorf("lab: node %s: route %s: %w", patient, r, err)
				}
			}
			return nil
		})
	}
}

// stopDecap ends the decapsulator.
func stopDecap(c *checker) error {
	for _, p := range c.Processes {
		if p.Node == patient && p.Role == roleDecap {
			if err := p.end(answerTime); err != nil {
				return err
			}
		}
	}
	return nil
}

// resumeDecap starts another.
func resumeDecap(c *checker) error { return startDecap(c.ctx, c.Lab, patient) }
