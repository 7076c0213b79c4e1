package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func outcomes(tests map[string]string) results {
	r := make(results)
	for name, outcome := range tests {
		r[name] = &result{outcome: outcome}
	}
	return r
}

func TestAFailureCountsWhereItHappened(t *testing.T) {
	r := outcomes(map[string]string{"TestA": "fail", "TestA/b": "fail", "TestA/c": "pass", "TestD": "fail"})
	v := r.judge(known{"TestA/b": "area: reason"}, true)
	if !slices.Equal(v.unknown, []string{"TestD"}) || len(v.known) != 1 || len(v.passing)+len(v.absent) != 0 {
		t.Fatalf("%+v", v)
	}
}

func TestAListedTestThatPassesOrIsGoneIsTold(t *testing.T) {
	r := outcomes(map[string]string{"TestA": "pass", "TestB": "skip", "TestC": "fail"})
	listed := known{"TestA": "a: b", "TestB": "a: b", "TestC": "a: b", "TestC/cut_off": "a: b", "TestGone": "a: b"}
	v := r.judge(listed, true)
	if !slices.Equal(v.passing, []string{"TestA", "TestB"}) || !slices.Equal(v.absent, []string{"TestGone"}) {
		t.Fatalf("%+v", v)
	}
	if v := r.judge(listed, false); len(v.absent) != 0 {
		t.Fatalf("not all tests ran, and yet: %+v", v)
	}
}

func TestALineOfKnownFailuresHasAReasonAndIsThereOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known")
	for text, good := range map[string]bool{
		"# why\n\ncsapi TestA media: there is none\nfed TestA x: y\n": true,
		"csapi TestA\n":                        false,
		"csapi TestA media\n":                  false,
		"csapi TestA a: b\ncsapi TestA a: c\n": false,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		found, err := readKnown(file, "csapi")
		if (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
		if good && (len(found) != 1 || found["TestA"] != "media: there is none") {
			t.Errorf("%v", found)
		}
	}
}

func TestWhatWasCutOffHasFailed(t *testing.T) {
	events := `{"Action":"run","Test":"TestA"}
{"Action":"output","Test":"TestA","Output":"panic: x\n"}
{"Action":"output","Output":"setting up\n"}
{"Action":"pass","Test":"TestB"}
`
	r, err := readResults(strings.NewReader(events))
	if err != nil {
		t.Fatal(err)
	}
	if r["TestA"].outcome != "fail" || r["TestB"].outcome != "pass" || r["TestA"].text() != "panic: x\n" {
		t.Fatalf("%+v", r)
	}
	delete(r, "")
	if c := r.count(); c.groups != (count{passed: 1, failed: 1}) || c.subtests != (count{}) {
		t.Fatalf("%+v", c)
	}
}
