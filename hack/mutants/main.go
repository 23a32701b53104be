// Mutants breaks the code on purpose, one line at a time, and shows which test
// notices. The mutants are listed in list.go.
//
//	go run ./hack/mutants [-group name] [-only regexp]
//
// It prints which test kills each mutant, or that the mutant lives. It fails if a mutant
// lives, does not compile or no longer fits the code. It never writes to the tree itself:
// the compiler gets the changed file in place of the real one.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// mutant is one change of the code and the tests that must notice it.
type mutant struct {
	group, file string
	from, to    string // from occurs once in file
	why         string // what it would do to a user
	pkg, run    string // the package to test, and the tests to run (all if empty)
	args        string // flags of the tests
}

func main() {
	group := flag.String("group", "", "try the mutants of this `group` alone")
	only := flag.String("only", "", "try those alone whose file, change or reason matches this `regexp`")
	flag.Parse()
	pattern, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants: -only:", err)
		os.Exit(2)
	}
	var chosen []mutant
	for _, m := range list() {
		if (*group == "" || m.group == *group) && pattern.MatchString(m.String()) {
			chosen = append(chosen, m)
		}
	}
	if err := try(".", chosen, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func (m mutant) String() string {
	return fmt.Sprintf("%s: %s -> %s (%s)", m.file, oneLine(m.from), oneLine(m.to), m.why)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// runner tries mutants of the module in dir.
type runner struct {
	dir, temp string
	mu        sync.Mutex // guards sound; held for a moment only
	sound     map[string]func() error
}

// sideBySide is how many mutants are tried at the same time.
const sideBySide = 2

// try tries mutants of the module in dir, and prints the result of each. The error counts
// the mutants with a wrong result.
func try(dir string, mutants []mutant, out io.Writer) error {
	if len(mutants) == 0 {
		return errors.New("there is no such mutant")
	}
	temp, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	r := &runner{dir: dir, temp: temp, sound: make(map[string]func() error)}
	next := make(chan int)
	var running sync.WaitGroup
	var mu sync.Mutex // guards bad and out; held for a line only
	bad := 0
	for range sideBySide {
		running.Go(func() {
			for i := range next {
				began := time.Now()
				killer, err := r.try(i, mutants[i])
				result := fmt.Sprintf("dies by %s in %.1f s", killer, time.Since(began).Seconds())
				mu.Lock()
				if err != nil {
					bad++
					result = err.Error()
				}
				fmt.Fprintf(out, "%s\n\t%s\n", mutants[i], result)
				mu.Unlock()
			}
		})
	}
	for i := range mutants {
		next <- i
	}
	close(next)
	running.Wait()
	if bad > 0 {
		return fmt.Errorf("%d of %d mutants are not noticed, or do not fit", bad, len(mutants))
	}
	return nil
}

// try says which test notices a mutant.
func (r *runner) try(n int, m mutant) (killer string, err error) {
	overlay, err := r.overlay(n, m)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(r.temp, fmt.Sprintf("mutant%d.test", n))
	if err := r.build(m.pkg, binary, "-overlay", overlay); err != nil {
		return "", err
	}
	defer os.Remove(binary)
	if err := r.soundly(m); err != nil {
		return "", err
	}
	return r.killer(m, binary)
}

// overlay writes the changed file, and tells the compiler which file it replaces.
func (r *runner) overlay(n int, m mutant) (name string, err error) {
	file, err := filepath.Abs(filepath.Join(r.dir, m.file))
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if found := strings.Count(string(text), m.from); found != 1 {
		return "", fmt.Errorf("STALE: the text occurs %d times in %s, not once", found, m.file)
	}
	changed := filepath.Join(r.temp, fmt.Sprintf("mutant%d.go", n))
	if err := os.WriteFile(changed, []byte(strings.Replace(string(text), m.from, m.to, 1)), 0o600); err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {file: changed}})
	if err != nil {
		return "", err
	}
	name = filepath.Join(r.temp, fmt.Sprintf("mutant%d.json", n))
	return name, os.WriteFile(name, replace, 0o600)
}

// build compiles the tests of a package.
func (r *runner) build(pkg, binary string, flags ...string) error {
	args := append([]string{"test", "-c", "-vet=off", "-gcflags=-N -l", "-ldflags=-s -w", "-o", binary}, flags...)
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GOGC=off", "GOMEMLIMIT=2GiB") // a third less time
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("DOES NOT COMPILE: %w\n%s", err, text)
	}
	return nil
}

// errLives is that no test notices a mutant.
var errLives = errors.New("LIVES")

var (
	failed  = regexp.MustCompile(`--- FAIL: (\S+)`)
	paniced = regexp.MustCompile(`(?m)^panic: .*`)
)

// killer runs the tests of a binary, and names the first one that fails.
func (r *runner) killer(m mutant, binary string) (string, error) {
	args := append([]string{"-test.run=" + m.run, "-test.failfast", "-test.timeout=2m"}, strings.Fields(m.args)...)
	cmd := exec.Command(binary, args...)
	cmd.Dir = filepath.Join(r.dir, m.pkg)
	text, err := cmd.CombinedOutput()
	if strings.Contains(string(text), "no tests to run") {
		return "", fmt.Errorf("STALE: %s has no test %s", m.pkg, m.run)
	}
	if err == nil {
		return "", errLives
	}
	name := ""
	for _, found := range failed.FindAllSubmatch(text, -1) {
		if name != "" && !strings.HasPrefix(string(found[1]), name+"/") {
			break
		}
		name = string(found[1]) // down to the row of a table
	}
	if name == "" {
		name = string(paniced.Find(text))
	}
	if name == "" {
		return "", fmt.Errorf("run the tests: %w\n%s", err, text)
	}
	return name, nil
}

// soundly says whether the tests that must kill a mutant pass without the mutant. It
// builds each package once, and runs the same tests once.
func (r *runner) soundly(m mutant) error {
	build := r.once(m.pkg, func() error { return r.build(m.pkg, r.original(m.pkg)) })
	if err := build(); err != nil {
		return err
	}
	return r.once(m.pkg+" "+m.run+" "+m.args, func() error {
		switch killer, err := r.killer(m, r.original(m.pkg)); {
		case errors.Is(err, errLives):
			return nil
		case err != nil:
			return err
		default:
			return fmt.Errorf("UNSOUND: %s fails without the mutant too", killer)
		}
	})()
}

// original is the path of a package's tests, built without a mutant.
func (r *runner) original(pkg string) string {
	return filepath.Join(r.temp, strings.Map(func(c rune) rune {
		if c == '/' {
			return '_'
		}
		return c
	}, pkg)+".test")
}

func (r *runner) once(key string, f func() error) func() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sound[key] == nil {
		r.sound[key] = sync.OnceValue(f)
	}
	return r.sound[key]
}
