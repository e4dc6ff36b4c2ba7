// Package record writes decision records (forwarder.Record): as JSON, one object a line, and as text for people, one
// block a packet.
//
// Contract: Line is the JSON form; its keys are stable, snake_case, and left out where they say nothing. A Writer never
// waits on the goroutine that moves packets: what its bounded buffer has no room for is dropped and counted. Making a
// Line allocates, so records are for teaching and for looking into things, not for every day.
package record
