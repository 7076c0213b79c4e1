package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// count is how many tests ended how.
type count struct{ passed, failed, skipped int }

func (c *count) add(outcome string) {
	switch outcome {
	case "pass":
		c.passed++
	case "fail":
		c.failed++
	case "skip":
		c.skipped++
	}
}

func (c count) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c.passed, c.failed, c.skipped)
}

// counts are the tests at the top, and those below.
type counts struct{ groups, subtests count }

func (r results) count() counts {
	var c counts
	for name, test := range r {
		if strings.Contains(name, "/") {
			c.subtests.add(test.outcome)
		} else {
			c.groups.add(test.outcome)
		}
	}
	return c
}

// known are the failures of a package that are known, by test, with their reasons.
type known map[string]string

// readKnown reads the lines of one package: the package, the test, and why it fails.
func readKnown(file, pkg string) (known, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	found := make(known)
	line := 0
	for text := range strings.Lines(string(text)) {
		line++
		text = strings.TrimSpace(text)
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		fields := strings.Fields(text)
		if len(fields) < 3 || !strings.HasSuffix(fields[2], ":") {
			return nil, fmt.Errorf("%s:%d: a line is \"package test area: reason\"", file, line)
		}
		if fields[0] != pkg {
			continue
		}
		if _, twice := found[fields[1]]; twice {
			return nil, fmt.Errorf("%s:%d: %s is there twice", file, line, fields[1])
		}
		found[fields[1]] = strings.Join(fields[2:], " ")
	}
	return found, nil
}

// verdict is how results compare with what is known.
type verdict struct {
	// Failures that are known, with their reasons.
	known []string
	// Failures that are not.
	unknown []string
	// Tests that pass, or are skipped, though they are known to fail.
	passing []string
	// Tests that are known to fail and are not there.
	absent []string
}

func (v verdict) good() bool {
	return len(v.unknown)+len(v.passing)+len(v.absent) == 0
}

// judge compares. Only a failure with no failed subtest counts: it is what fails the tests above it. If not all
// tests were run, those that are absent are no matter.
func (r results) judge(known known, all bool) verdict {
	var v verdict
	for _, name := range r.names() {
		reason, listed := known[name]
		switch {
		case r[name].outcome != "fail":
			if listed {
				v.passing = append(v.passing, name)
			}
		case listed:
			v.known = append(v.known, name+"  "+reason)
		case !r.failsBelow(name):
			v.unknown = append(v.unknown, name)
		}
	}
	if all {
		for name := range known {
			if r[name] == nil && !r.failedAbove(name) {
				v.absent = append(v.absent, name)
			}
		}
		slices.Sort(v.absent)
	}
	return v
}

func (r results) failsBelow(name string) bool {
	for other, test := range r {
		if test.outcome == "fail" && strings.HasPrefix(other, name+"/") {
			return true
		}
	}
	return false
}

// failedAbove says whether a test that did not run is below one that failed, and may have been cut off by it.
func (r results) failedAbove(name string) bool {
	for {
		end := strings.LastIndex(name, "/")
		if end < 0 {
			return false
		}
		name = name[:end]
		if test := r[name]; test != nil && test.outcome == "fail" {
			return true
		}
	}
}

func (v verdict) print(to io.Writer, out string) {
	for _, part := range []struct {
		title string
		tests []string
	}{
		{"known to fail", v.known},
		{"FAILED, and not known to", v.unknown},
		{"PASSED, though known to fail: remove them from known-failures.txt", v.passing},
		{"KNOWN TO FAIL, but there is no such test", v.absent},
	} {
		if len(part.tests) == 0 {
			continue
		}
		fmt.Fprintf(to, "\n%s:\n", part.title)
		for _, test := range part.tests {
			fmt.Fprintf(to, "  %s\n", test)
		}
	}
	fmt.Fprintf(to, "\nwhat the failed tests printed is in %s\n", out)
}
