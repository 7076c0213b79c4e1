package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

const complementModule = "github.com/matrix-org/complement"

// errUnavailable says that Complement can't be had, which says nothing of chancery.
var errUnavailable = errors.New("Complement can't be downloaded: nothing was tested")

// suite is a compiled package of tests.
type suite struct {
	// Where what is generated goes.
	folder string
	// The sources of the package: tests run there.
	source string
	binary string
}

// ourMain takes the place of a package's own main_test.go.
const ourMain = `package %s

import (
	"testing"

	"chancery/complement/deploy"
)

func TestMain(m *testing.M) { deploy.Main(m, %q) }
`

// compile builds a package of tests with our TestMain.
//
// An overlay may not lie over the module cache, so the module is seen through a link from elsewhere, by a
// workspace that is made for the purpose.
func compile(pkg string) (*suite, error) {
	module, err := output("go", "list", "-m", "-f", "{{.Dir}}", complementModule)
	if err == nil && module == "" {
		err = command("go", "mod", "download", complementModule).Run()
		if err == nil {
			module, err = output("go", "list", "-m", "-f", "{{.Dir}}", complementModule)
		}
	}
	if err != nil || module == "" {
		return nil, errUnavailable
	}
	here, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	s := &suite{folder: filepath.Join(cache, "chancery", "complement", pkg)}
	if err := os.MkdirAll(s.folder, 0o700); err != nil {
		return nil, err
	}
	link := filepath.Join(s.folder, "module")
	_ = os.Remove(link)
	if err := os.Symlink(module, link); err != nil {
		return nil, err
	}
	path := "tests"
	if pkg != "fed" {
		path = "tests/" + pkg
	}
	s.source = filepath.Join(link, filepath.FromSlash(path))
	name, err := packageName(s.source)
	if err != nil {
		return nil, fmt.Errorf("there is no package %q of tests: %w", pkg, err)
	}
	replacement := filepath.Join(s.folder, "main_test.go")
	overlay := map[string]map[string]string{"Replace": {filepath.Join(s.source, "main_test.go"): replacement}}
	overlayJSON, err := json.Marshal(overlay)
	if err != nil {
		return nil, err
	}
	version, err := output("go", "list", "-m", "-f", "{{.GoVersion}}")
	if err != nil {
		return nil, err
	}
	// The module that is the workspace's own comes first.
	version, _, _ = strings.Cut(version, "\n")
	files := map[string]string{
		replacement:                             fmt.Sprintf(ourMain, name, pkg),
		filepath.Join(s.folder, "overlay.json"): string(overlayJSON),
		filepath.Join(s.folder, "go.work"): fmt.Sprintf("go %s\n\nuse %q\n\nreplace %s => %q\n",
			version, here, complementModule, link),
	}
	for file, text := range files {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	s.binary = filepath.Join(s.folder, "tests")
	build := command("go", "test", "-c", "-vet=off", "-overlay", filepath.Join(s.folder, "overlay.json"),
		"-o", s.binary, complementModule+"/"+path)
	build.Env = append(os.Environ(), "GOWORK="+filepath.Join(s.folder, "go.work"))
	build.Stdout = os.Stderr
	return s, build.Run()
}

func packageName(folder string) (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(folder, "main_test.go"), nil, parser.PackageClauseOnly)
	if err != nil {
		return "", err
	}
	return file.Name.Name, nil
}

// list names the tests that a -run pattern selects, by its first element.
func (s *suite) list(run, binary string) ([]string, error) {
	pattern, _, _ := strings.Cut(run, "/")
	if pattern == "" {
		pattern = "."
	}
	list := exec.Command(s.binary, "-test.list", pattern)
	list.Dir = s.source
	list.Env = append(os.Environ(), "CHANCERY_BIN="+binary)
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("listing the tests: %w", err)
	}
	var tests []string
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "Test") {
			tests = append(tests, line)
		}
	}
	if len(tests) == 0 {
		return nil, fmt.Errorf("no test matches %q", run)
	}
	return tests, nil
}

// run runs tests, a share of them in each of several processes.
func (s *suite) run(tests []string, o options, binary string) (results, error) {
	shards := min(o.shards, len(tests))
	_, rest, hasRest := strings.Cut(o.run, "/")
	all := make(results)
	var running sync.WaitGroup
	var mutex sync.Mutex
	var failed error
	for shard := range shards {
		var share []string
		// Dealt out in turn, since tests of one file, which come one after the other, take equally long.
		for i := shard; i < len(tests); i += shards {
			share = append(share, tests[i])
		}
		running.Go(func() {
			// A test that panics takes its process along: the rest of the share goes on in another.
			for len(share) > 0 {
				pattern := "^(" + strings.Join(share, "|") + ")$"
				if hasRest {
					pattern += "/" + rest
				}
				found, err := s.runShard(pattern, o, binary)
				left := slices.DeleteFunc(slices.Clone(share), func(test string) bool { return found[test] != nil })
				if err == nil && len(left) == len(share) {
					err = fmt.Errorf("a process ran no test; it printed:\n%s", found[""].text())
				}
				share = left
				mutex.Lock()
				delete(found, "")
				maps.Copy(all, found)
				failed = errors.Join(failed, err)
				mutex.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	running.Wait()
	return all, failed
}

func (s *suite) runShard(pattern string, o options, binary string) (results, error) {
	// Complement writes into the folder for temporary files under fixed names.
	temporary, err := os.MkdirTemp("", "complement-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temporary)
	tests := exec.Command(s.binary, "-test.v=test2json", "-test.run", pattern, "-test.timeout", o.timeout.String(),
		"-test.parallel", "4")
	tests.Dir = s.source
	tests.Env = append(os.Environ(), "CHANCERY_BIN="+binary, "TMPDIR="+temporary)
	// A group of its own, so that the servers of tests that were cut off end with it.
	tests.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	convert := command("go", "tool", "test2json", "-t")
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	tests.Stdout, tests.Stderr, convert.Stdin = writer, writer, reader
	events, err := convert.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(convert.Start(), tests.Start()); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		// That tests failed is told by the events.
		_ = tests.Wait()
		_ = syscall.Kill(-tests.Process.Pid, syscall.SIGKILL)
		close(ended)
	}()
	writer.Close()
	reader.Close()
	found, err := readResults(events)
	<-ended
	return found, errors.Join(err, convert.Wait())
}

// command is a command whose complaints are shown.
func command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Stderr = os.Stderr
	return c
}

func output(name string, args ...string) (string, error) {
	out, err := command(name, args...).Output()
	return strings.TrimSpace(string(out)), err
}

// event is what test2json says.
type event struct {
	Action string
	Test   string
	Output string
}

// result is how a test ended.
type result struct {
	// pass, fail or skip; empty while it runs.
	outcome string
	output  bytes.Buffer
}

// results are the tests by name. What a process prints outside of tests is under the empty name.
type results map[string]*result

func readResults(events io.Reader) (results, error) {
	found := make(results)
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("not an event: %q", line)
		}
		test := found[e.Test]
		if test == nil {
			test = new(result)
			found[e.Test] = test
		}
		switch e.Action {
		case "pass", "fail", "skip":
			test.outcome = e.Action
		case "output":
			test.output.WriteString(e.Output)
		}
	}
	for name, test := range found {
		// What was cut off has failed; what came before the first test is no test.
		if name != "" && test.outcome == "" {
			test.outcome = "fail"
		}
	}
	return found, nil
}

// text is what a test printed; there may be no such test.
func (r *result) text() string {
	if r == nil {
		return ""
	}
	return r.output.String()
}

func (r results) names() []string {
	names := make([]string, 0, len(r))
	for name := range r {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// save writes the output of each test that failed, and of its subtests, to a file.
func (r results) save(folder string) error {
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	for _, name := range r.names() {
		group, _, _ := strings.Cut(name, "/")
		if r[group] == nil || r[group].outcome != "fail" {
			continue
		}
		file, err := os.OpenFile(filepath.Join(folder, group+".txt"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = r[name].output.WriteTo(file)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}
