package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"naru/internal/admin"
)

// awaitUp waits until what status shows is up, or for as long as --wait says; also for a naru that does not answer yet. It
// reports no error: what is shown then tells.
func awaitUp(c *cli.Context) {
	for end := time.Now().Add(c.Duration("wait")); ; {
		var s admin.Status
		err := ask(c, http.MethodGet, admin.Path("status"), nil, &s)
		if err == nil {
			if bad, err := narrow(&s, c.Args().First()); !bad || err != nil {
				return
			}
		}
		if !time.Now().Add(waitEvery).Before(end) {
			return
		}
		select {
		case <-c.Context.Done():
			return
		case <-time.After(waitEvery):
		}
	}
}

// wouldDrain says what draining a backend would do, and does nothing.
func wouldDrain(c *cli.Context, order admin.StateOrder) error {
	service, backend, err := backendArg(c)
	if err != nil {
		return err
	}
	var s admin.ServiceDocument
	if err := ask(c, http.MethodGet, admin.Path("services", service), nil, &s); err != nil {
		return err
	}
	var one *admin.Backend
	var names, others []string
	for i := range s.Backends {
		b := &s.Backends[i]
		names = append(names, service+"/"+b.Backend)
		switch {
		case b.Backend == backend:
			one = b
		case b.Share > 0:
			others = append(others, b.Backend)
		}
	}
	if one == nil {
		return usagef("there is no backend %s/%s; there are %s", service, backend, strings.Join(names, ", "))
	}
	text := fmt.Sprintf("%s/%s is %s; drained, its %s would end by themselves", service, backend, one.State,
		count(int(one.Active), "connection"))
	if order.Deadline > 0 {
		text += fmt.Sprintf(", what is left after %v be ended", c.Duration("deadline"))
	}
	if others == nil {
		text += fmt.Sprintf(", and nobody of %s would take new ones", service)
	} else {
		text += ", and new ones go to " + strings.Join(others, ", ")
	}
	fmt.Fprintln(c.App.Writer, text+"; nothing was changed")
	return nil
}
