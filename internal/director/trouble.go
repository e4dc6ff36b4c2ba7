package director

import (
	"context"
	"log/slog"
	"time"
)

// say writes a message at most once in a while for each key, and reports whether it did.
func (d *Director) say(key string, level slog.Level, msg string, args ...any) bool {
	held, ok := d.limit.allow(key, time.Now())
	if !ok {
		return false
	}
	if held > 0 {
		args = append(args, "repeated", held)
	}
	d.log.Log(context.Background(), level, msg, args...)
	return true
}

func (d *Director) mirrorTrouble(err error) {
	d.say("mirror", slog.LevelWarn, "kernel announcements were lost; everything is read again", "error", err)
}

func (d *Director) fenceTrouble(err error) {
	if err != nil {
		d.say("fence down", slog.LevelError, "the fence was taken away and cannot be put up again", "error", err)
		return
	}
	d.say("fence", slog.LevelWarn, "the fence was taken away (nft flush ruleset?) and is up again")
}
