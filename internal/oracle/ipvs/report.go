package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// line is a line of the report: a scheduler and a pattern.
type line struct {
	cases, choices int
	equal          int // cases in which package sched and IPVS chose the same
	asStated       int // cases in which IPVS did as the rules say that the documentation states
	first          int // the first choice that was another one, of all cases; -1: none
	differs        bool
}

// report compares and prints, and returns whether everything is as documented.
func report(w io.Writer, all []Case, theirs []Result, verbose bool) bool {
	type key struct{ scheduler, pattern string }
	lines, order, good := map[key]*line{}, []key{}, true
	for i := range all {
		c := &all[i]
		k := key{c.Scheduler, c.Pattern}
		l := lines[k]
		if l == nil {
			l = &line{first: -1, differs: c.differs()}
			lines[k], order = l, append(order, k)
		}
		mine, stated := playOurs(c), playRule(c)
		for _, problem := range l.compare(c, theirs[i], mine, stated) {
			good = false
			fmt.Fprintf(w, "%s: %s\n", c, problem)
		}
		if verbose {
			fmt.Fprintf(w, "%s\n  IPVS  %s\n  naru  %s\n  rules %s\n", c, letters(theirs[i].Choices),
				letters(mine.Choices), letters(stated.Choices))
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "scheduler\tconnections\tcases\tchoices\tequal\tfirst other\tby the rules\tdocumented")
	for _, k := range order {
		l, first, documented := lines[k], "none", "equal"
		if l.first >= 0 {
			first = fmt.Sprint(l.first + 1)
		}
		if l.differs {
			documented = "differs"
			if l.equal == l.cases {
				good, documented = false, "differs, but no case does"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%s\t%d\t%s\n", k.scheduler, k.pattern, l.cases, l.choices, l.equal, first,
			l.asStated, documented)
	}
	t.Flush()
	shares(w, all, theirs)
	return good
}

// shares prints, of the schedulers that hash, how the clients are spread, and how many move when a backend goes that was not
// theirs.
func shares(w io.Writer, all []Case, theirs []Result) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\n%d clients\tweights\tIPVS\tnaru\tmoved: IPVS\tnaru\n", population)
	for i := range all {
		c := &all[i]
		if c.Pattern != hashPatterns[1].name || len(theirs[i].Choices) != 2*population {
			continue
		}
		mine := playOurs(c).Choices
		fmt.Fprintf(t, "%s\t%v\t%v\t%v\t%d\t%d\n", c.Scheduler, c.Weights, spread(theirs[i].Choices, len(c.Weights)),
			spread(mine, len(c.Weights)), moved(theirs[i].Choices, len(c.Weights)-1), moved(mine, len(c.Weights)-1))
	}
	t.Flush()
}

// spread counts what each of n backends got of the first connection of each client.
func spread(choices []int, n int) []int {
	counts := make([]int, n)
	for _, c := range choices[:population] {
		if c >= 0 {
			counts[c]++
		}
	}
	return counts
}

// moved counts the clients whose second connection went elsewhere than the first, but for those of the backend that went.
func moved(choices []int, gone int) (n int) {
	for i, first := range choices[:population] {
		if first != gone && choices[population+i] != first {
			n++
		}
	}
	return n
}

// compare counts a case and returns what is not as documented.
func (l *line) compare(c *Case, theirs, mine, stated Result) (problems []string) {
	l.cases++
	l.choices += len(theirs.Choices)
	if theirs.Error != "" {
		return []string{"the machine: " + theirs.Error}
	}
	at := firstOther(theirs.Choices, mine.Choices)
	switch {
	case at < 0:
		l.equal++
	case l.first < 0 || at < l.first:
		l.first = at
	}
	if at >= 0 && !l.differs {
		problems = append(problems, fmt.Sprintf("choice %d is another one:\n  IPVS %s\n  naru %s", at+1,
			letters(theirs.Choices), letters(mine.Choices)))
	}
	switch other := firstOther(theirs.Choices, stated.Choices); {
	case other >= 0:
		problems = append(problems, fmt.Sprintf("choice %d is not by the rules:\n  IPVS  %s\n  rules %s", other+1,
			letters(theirs.Choices), letters(stated.Choices)))
	case !slices.Equal(theirs.Active, stated.Active) || !slices.Equal(theirs.Idle, stated.Idle):
		problems = append(problems, fmt.Sprintf("counts are not by the rules: IPVS %v %v, rules %v %v", theirs.Active,
			theirs.Idle, stated.Active, stated.Idle))
	default:
		l.asStated++
	}
	return problems
}

// firstOther returns where two lists differ first, -1 if nowhere.
func firstOther(a, b []int) int {
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			return i
		}
	}
	return -1
}

// letters writes choices as backends A, B, C and so on, and a dot for none.
func letters(choices []int) string {
	b := make([]byte, len(choices))
	for i, c := range choices {
		if b[i] = '.'; c >= 0 {
			b[i] = byte('A' + c)
		}
	}
	return string(b)
}
