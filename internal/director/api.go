package director

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"naru/internal/admin"
	"naru/internal/roster"
)

// Serve registers what the director answers.
func (d *Director) Serve(s *admin.Server) {
	s.Handle("GET /v1/status", admin.Read, func(*http.Request) (any, error) { return d.Status(), nil })
	s.Handle("GET /v1/services", admin.Read, func(*http.Request) (any, error) {
		return admin.Services{Head: admin.NewHead("Services"), Services: d.Status().Services}, nil
	})
	s.Handle("GET /v1/services/{service}", admin.Read, func(r *http.Request) (any, error) {
		for _, svc := range d.Status().Services {
			if svc.Service == r.PathValue("service") {
				return admin.ServiceDocument{Head: admin.NewHead("Service"), Service: svc}, nil
			}
		}
		return nil, notFound("service " + r.PathValue("service"))
	})
	d.serveLive(s)
	s.Stream("GET /v1/events", admin.Read, d.streamEvents)
	s.Handle("POST /v1/backends/{service}/{backend}/state", admin.Write, d.postState)
	s.Handle("PUT /v1/backends/{service}/{backend}/weight", admin.Write, d.putWeight)
}

func notFound(what string) error {
	return &admin.Problem{Status: http.StatusNotFound, Title: "not found", Detail: "there is no " + what}
}

func badRequest(format string, args ...any) error {
	return &admin.Problem{Status: http.StatusBadRequest, Title: "wrong request", Detail: fmt.Sprintf(format, args...)}
}

// streamEvents sends the events that are kept, those after ?since=SEQ only, and with ?follow=true those to come.
func (d *Director) streamEvents(ctx context.Context, r *http.Request, send func(any) error) error {
	var since uint64
	if text := r.URL.Query().Get("since"); text != "" {
		var err error
		if since, err = strconv.ParseUint(text, 10, 64); err != nil {
			return badRequest("since=%s is not the number of an event", text)
		}
	}
	follow, _ := strconv.ParseBool(r.URL.Query().Get("follow"))
	return d.standing.ring.Follow(ctx, since, follow, send)
}

// decode reads the document of a request.
func decode(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
			return err
		}
		return badRequest("%v", err)
	}
	return nil
}

var actions = map[string]roster.Action{"ready": roster.Ready, "drain": roster.Drain, "disable": roster.Disable}

func (d *Director) postState(r *http.Request) (any, error) {
	var in admin.StateOrder
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	o := roster.Order{Key: keyOf(r)}
	var known bool
	if o.Action, known = actions[in.State]; !known {
		return nil, badRequest("state %q is not ready, drain or disable", in.State)
	}
	if in.Deadline != 0 {
		const most = float64(10 * 365 * 24 * 3600)
		if o.Action != roster.Drain || !(in.Deadline > 0 && in.Deadline < most) {
			return nil, badRequest("deadline_seconds %v: it is for drain, and above 0", in.Deadline)
		}
		o.Deadline = time.Duration(in.Deadline * float64(time.Second))
	}
	return d.follow(o)
}

func (d *Director) putWeight(r *http.Request) (any, error) {
	var in admin.WeightOrder
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	if in.Weight == nil || *in.Weight < 0 || *in.Weight > min(roster.MaxWeight, math.MaxInt32) {
		return nil, badRequest("weight must be a whole number from 0 to %d", roster.MaxWeight)
	}
	return d.follow(roster.Order{Key: keyOf(r), Action: roster.SetWeight, Weight: uint32(*in.Weight)})
}

func keyOf(r *http.Request) roster.Key {
	return roster.Key{Service: r.PathValue("service"), Backend: r.PathValue("backend")}
}

// follow gives an order and answers with the backend as it is then.
func (d *Director) follow(o roster.Order) (any, error) {
	if err := d.order(o); err != nil {
		if unknown := (*roster.UnknownError)(nil); errors.As(err, &unknown) {
			return nil, notFound("backend " + o.Key.String())
		}
		return nil, err
	}
	for _, s := range d.Status().Services {
		for _, b := range s.Backends {
			if s.Service == o.Service && b.Backend == o.Backend {
				return admin.BackendDocument{Head: admin.NewHead("Backend"), Service: s.Service, Backend: b}, nil
			}
		}
	}
	return nil, notFound("backend " + o.Key.String()) // a reload has just taken it away
}
