// Command complement runs a package of Complement's own tests against local chancery processes, and judges what
// failed by known-failures.txt.
//
// The packages stay as they are, their TestMain apart: ours is put in its place while they are compiled. No
// container is needed.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Exit codes.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitUnavailable = 3
)

// options are the command line.
type options struct {
	pkg     string
	run     string
	binary  string
	known   string
	out     string
	shards  int
	timeout time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.pkg, "pkg", "csapi", "the package: csapi, fed, or an MSC such as msc3874")
	flag.StringVar(&o.run, "run", "", "only the tests that match, as go test -run has it")
	flag.StringVar(&o.binary, "bin", os.Getenv("CHANCERY_BIN"), "the binary of chancery; $CHANCERY_BIN if not given")
	flag.StringVar(&o.known, "known", "known-failures.txt", "the failures that are known, with their reasons")
	flag.StringVar(&o.out, "out", "", "where the output of each failed test goes; the cache folder if not given")
	flag.IntVar(&o.shards, "shards", 4, "how many processes share the tests; most tests wait more than they work")
	flag.DurationVar(&o.timeout, "timeout", 20*time.Minute, "how long each of them may take")
	flag.Parse()
	if flag.NArg() > 0 || o.binary == "" || o.shards < 1 {
		flag.Usage()
		os.Exit(exitUsage)
	}
	if err := o.main(); err != nil {
		fmt.Fprintln(os.Stderr, "complement:", err)
		if errors.Is(err, errUnavailable) {
			os.Exit(exitUnavailable)
		}
		os.Exit(exitFailed)
	}
}

func (o options) main() error {
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return err
	}
	known, err := readKnown(o.known, o.pkg)
	if err != nil {
		return err
	}
	begin := time.Now()
	suite, err := compile(o.pkg)
	if err != nil {
		return err
	}
	compiled := time.Now()
	tests, err := suite.list(o.run, binary)
	if err != nil {
		return err
	}
	results, err := suite.run(tests, o, binary)
	if err != nil {
		return err
	}
	out := o.out
	if out == "" {
		out = filepath.Join(suite.folder, "failed")
	}
	if err := results.save(out); err != nil {
		return err
	}
	verdict := results.judge(known, o.run == "")
	verdict.print(os.Stdout, out)
	fmt.Printf("compiled in %.0f s, ran in %.0f s\n", compiled.Sub(begin).Seconds(), time.Since(compiled).Seconds())
	counts := results.count()
	fmt.Printf("%s groups: %s\n", o.pkg, counts.groups)
	fmt.Printf("%s subtests: %s\n", o.pkg, counts.subtests)
	if !verdict.good() {
		return errors.New("not what known-failures.txt says")
	}
	return nil
}
