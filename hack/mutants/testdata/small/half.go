// Package small is what the runner of mutants is tested with.
package small

// Half halves.
func Half(n int) int { return n / 2 }

func twice(n int) int { return n * 2 }

var more = func(n int) int {
	return n + 1
}

// send has no result, and its last line ends it.
func send(c chan<- bool) {
	c <- true
}
