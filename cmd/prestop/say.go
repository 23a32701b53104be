package main

import (
	"fmt"
	"io"
	"strings"
	"syscall"
)

// longestLine is what a pipe takes in one piece, so that lines of several
// writers do not mix.
const longestLine = 4096

// say writes a line to a file that is there already, or else to other. It
// neither fails nor blocks.
func say(file string, other io.Writer, text string) {
	line := "prestop: " + strings.Join(strings.Fields(text), " ")
	line = strings.ToValidUTF8(line[:min(len(line), longestLine-1)], "") + "\n"
	// The file is mostly a pipe to the container runtime. Opened like this it
	// gives an error where a write would block.
	fd, err := syscall.Open(file, syscall.O_WRONLY|syscall.O_APPEND|syscall.O_NONBLOCK|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err == nil {
		defer syscall.Close(fd)
		if _, err = syscall.Write(fd, []byte(line)); err == nil {
			return
		}
	}
	fmt.Fprint(other, line)
}
