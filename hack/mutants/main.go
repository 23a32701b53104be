// Mutants breaks the code on purpose, one line at a time, and shows which test
// notices. The mutants are listed in list.go.
//
//	go run ./hack/mutants [-group name] [-only regexp]
//
// It prints which test kills each mutant, or that the mutant lives. It fails if a mutant
// lives, does not compile or no longer fits the code. It never writes to the tree itself:
// the compiler gets changed files in place of the real ones.
//
// To be quick, the tests of a package are compiled once, with all of its mutants in them
// (plant.go), and an environment variable wakes one mutant for a run. So a mutant has to
// change the body of a function: in place of a constant, change what uses it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
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
	mutants   []mutant
	out       io.Writer

	mu    sync.Mutex // guards the rest; held for a moment only
	sound map[string]func() error
	bad   int
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
	r := &runner{dir: dir, temp: temp, mutants: mutants, out: out, sound: make(map[string]func() error)}
	type planted struct {
		n      int
		binary string
	}
	next := make(chan planted)
	var running sync.WaitGroup
	for range sideBySide {
		running.Go(func() {
			for p := range next {
				began := time.Now()
				killer, err := r.try(p.n, p.binary)
				r.tell(p.n, fmt.Sprintf("dies by %s in %.1f s", killer, time.Since(began).Seconds()), err)
			}
		})
	}
	packages := make(map[string][]int)
	for n, m := range mutants {
		packages[m.pkg] = append(packages[m.pkg], n)
	}
	for _, pkg := range slices.Sorted(maps.Keys(packages)) {
		binary, numbers := r.build(pkg, packages[pkg])
		for _, n := range numbers {
			next <- planted{n, binary}
		}
	}
	close(next)
	running.Wait()
	if r.bad > 0 {
		return fmt.Errorf("%d of %d mutants are not noticed, or do not fit", r.bad, len(mutants))
	}
	return nil
}

// tell prints what came of a mutant.
func (r *runner) tell(n int, result string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.bad++
		result = err.Error()
	}
	fmt.Fprintf(r.out, "%s\n\t%s\n", r.mutants[n], result)
}

var ofMutant = regexp.MustCompile(`\bmutant(\d+)\.go:`)

// build compiles the tests of a package once, with mutants in it, all of them asleep. It
// tells of those that do not fit, and returns the others.
func (r *runner) build(pkg string, numbers []int) (binary string, planted []int) {
	p := &planting{dir: r.dir, temp: filepath.Join(r.temp, strings.ReplaceAll(pkg, "/", "_"))}
	binary = filepath.Join(p.temp, "package.test")
	fail := func(n int, err error) {
		r.tell(n, "", err)
		numbers = slices.DeleteFunc(numbers, func(v int) bool { return v == n })
	}
	for _, n := range slices.Clone(numbers) {
		if err := r.mutants[n].fits(r.dir); err != nil {
			fail(n, err)
		}
	}
	for len(numbers) > 0 {
		overlay, err := p.plant(r.mutants, numbers)
		var text []byte
		if err == nil {
			cmd := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", overlay, "-o", binary, pkg)
			cmd.Dir = r.dir
			cmd.Env = append(os.Environ(), "GOGC=off", "GOMEMLIMIT=2GiB") // a third less time
			text, err = cmd.CombinedOutput()
		}
		if err == nil {
			return binary, numbers
		}
		err = fmt.Errorf("DOES NOT COMPILE: %w\n%s", err, text)
		wrong := numbers // all, unless the compiler names some
		if named := ofMutant.FindAllSubmatch(text, -1); named != nil {
			wrong = nil
			for _, name := range named {
				n, _ := strconv.Atoi(string(name[1]))
				wrong = append(wrong, n)
			}
			slices.Sort(wrong)
		}
		for _, n := range slices.Compact(slices.Clone(wrong)) {
			fail(n, err)
		}
	}
	return binary, nil
}

// try says which test notices a mutant, once it is clear that the same tests pass if all
// mutants are asleep.
func (r *runner) try(n int, binary string) (killer string, err error) {
	m := r.mutants[n]
	sound := r.once(m.pkg+" "+m.run+" "+m.args, func() error {
		switch killer, err := r.killer(m, binary, 0); {
		case errors.Is(err, errLives):
			return nil
		case err != nil:
			return err
		default:
			return fmt.Errorf("UNSOUND: %s fails without the mutant too", killer)
		}
	})
	if err := sound(); err != nil {
		return "", err
	}
	return r.killer(m, binary, n+1)
}

// errLives is that no test notices a mutant.
var errLives = errors.New("LIVES")

var (
	failed  = regexp.MustCompile(`--- FAIL: (\S+)`)
	begun   = regexp.MustCompile(`(?m)^=== (?:RUN|CONT|NAME) +(\S+)`)
	paniced = regexp.MustCompile(`(?m)^(?:panic|fatal error): .*`)
)

// killer runs the tests of a binary with one mutant awake, and names the first one that
// fails.
func (r *runner) killer(m mutant, binary string, awake int) (string, error) {
	args := append([]string{"-test.run=" + m.run, "-test.v", "-test.failfast", "-test.timeout=1m"}, strings.Fields(m.args)...)
	cmd := exec.Command(binary, args...)
	cmd.Dir = filepath.Join(r.dir, m.pkg)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", variable, awake), "GOGC=off", "GOMEMLIMIT=1GiB")
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
	if all := begun.FindAllSubmatch(text, -1); name == "" && all != nil {
		name = string(all[len(all)-1][1])
	}
	if name == "" {
		return "", fmt.Errorf("run the tests: %w\n%s", err, text)
	}
	if end := paniced.Find(text); end != nil {
		name += " (" + string(end) + ")"
	}
	return name, nil
}

func (r *runner) once(key string, f func() error) func() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sound[key] == nil {
		r.sound[key] = sync.OnceValue(f)
	}
	return r.sound[key]
}
