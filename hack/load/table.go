package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// table is what is printed of a scenario: a row for each load.
type table struct {
	title  string
	header []string
	rows   [][]cell
	notes  []string
}

// cell is one figure, and whether it is over its bound.
type cell struct {
	text string
	over bool
}

func plain(format string, args ...any) cell { return cell{text: fmt.Sprintf(format, args...)} }

// bounded is a figure that must not be more than a bound. An infinite bound is none.
func bounded(value, most float64) cell {
	c := cell{digits(value), value > most || math.IsNaN(value)}
	switch {
	case c.over:
		c.text += " OVER " + digits(most)
	case !math.IsInf(most, 1):
		c.text += " ≤ " + digits(most) + " ok"
	}
	return c
}

// digits writes three digits of a number, or all before the point.
func digits(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// exactly is a count that must be a certain one.
func exactly(value, want int) cell {
	if value == want {
		return plain("%d ok", value)
	}
	return cell{fmt.Sprintf("%d, NOT %d", value, want), true}
}

// print writes the table as Markdown, and counts the figures that are over.
func (t *table) print(out io.Writer) (over int) {
	if len(t.rows) == 0 {
		return 0
	}
	fmt.Fprintf(out, "\n%s\n\n| %s |\n|%s\n", t.title, strings.Join(t.header, " | "), strings.Repeat("---|", len(t.header)))
	for _, r := range t.rows {
		var texts []string
		for _, c := range r {
			if c.over {
				over++
			}
			texts = append(texts, c.text)
		}
		fmt.Fprintf(out, "| %s |\n", strings.Join(texts, " | "))
	}
	fmt.Fprintln(out)
	for _, n := range t.notes {
		fmt.Fprintln(out, n)
	}
	return over
}

// p99 is the least of some times that 99 of 100 do not exceed, in milliseconds; not a number
// if there are none.
func p99(times []time.Duration) float64 {
	if len(times) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(times))
	return math.Round(sorted[(len(sorted)*99+99)/100-1].Seconds()*1e4) / 10
}
