package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"drainwait/internal/api"
)

// Whatever answers in place of the service: the hook lets its pod go on only for an
// outcome in a 200, or when the fallback or the budget of a wait that was cut is over;
// never later than max-delay; and it says one line of a bounded length.
func FuzzHook(f *testing.F) {
	const head = "HTTP/1.1 200 OK\r\n\r\n"
	for _, answer := range []string{
		head + drained, head + `{"OUTCOME":"drained"}`, head + `{"\u006futcome":"drained","targets":[{"state":"absent"}]} x`, head + "null", head + "[]", head + `{"outcome":""}`, head + `{"outcome":"drained"`,
		head + `{"outcome":{"outcome":"drained"}}`, head + `{"warnings":["drained"]}`, head + "<html>", "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n" + drained,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"out\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n" + head + drained, "HTTP/1.1 204 No Content\r\n\r\n" + drained, "HTTP/1.1 202 Accepted\r\n\r\n" + drained, "", "\r\n", "HTTP/1.1 999 No\r\n\r\n{}",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "HTTP/1.1 404 Not Found\r\n\r\n" + `{"error":"not_found","message":"x\ny","warnings":["z"]}`,
		"HTTP/1.1 503 Unavailable\r\nRetry-After: 99999999\r\n\r\n" + `{"error":"unavailable","budgetSeconds":1e300}`, "HTTP/1.1 503 Unavailable\r\nRetry-After: -1\r\n\r\n" + `{"error":"unavailable","budgetSeconds":7.5}`,
		"HTTP/1.1 503 Unavailable\r\n\r\n" + `{"error":"unavailable","budgetSeconds":-1e300}`,
	} {
		f.Add([]byte(answer), false)
		f.Add([]byte(answer), true)
	}
	f.Fuzz(func(t *testing.T, answer []byte, hold bool) {
		const fallback, maxDelay = 25 * time.Second, time.Minute
		synctest.Test(t, func(t *testing.T) {
			h := &hook{server: &url.URL{Scheme: "http", Host: "drain-wait"}, maxDelay: maxDelay, fallback: fallback, query: url.Values{}}
			h.dial = func(context.Context, string, string) (net.Conn, error) {
				client, server := net.Pipe()
				go answerWith(server, answer, hold)
				return client, nil
			}
			var said bytes.Buffer
			h.say = func(string, ...any) {}
			began := time.Now()
			served := h.run()
			took := time.Since(began)
			outcome, budget := read(answer)
			if served && outcome == "" || took > maxDelay {
				t.Errorf("served %v by outcome %q after %s", served, outcome, took)
			}
			if least := min(fallback, budget); !served && took < least {
				t.Errorf("went on without an outcome after %s, want %s", took, least)
			}
			say("", &said, string(answer))
			if line := said.String(); strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") || len(line) > longestLine || !utf8.ValidString(line) {
				t.Errorf("said %q", line)
			}
		})
	})
}

// answerWith answers the request on a connection, and then closes it or holds it open.
func answerWith(conn net.Conn, answer []byte, hold bool) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	if _, err := http.ReadRequest(r); err != nil {
		return
	}
	if _, err := conn.Write(answer); err == nil && hold {
		_, _ = r.ReadByte() // until the hook has had enough
	}
}

// read reads the outcome of a 200 and the budget of a 503, as plainly as can be.
func read(answer []byte) (outcome string, budget time.Duration) {
	budget = time.Hour
	r := bufio.NewReader(bytes.NewReader(answer))
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return "", budget
		}
		if resp.StatusCode >= 100 && resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		var body map[string]any
		_ = json.NewDecoder(resp.Body).Decode(&body)
		for name, v := range body {
			text, _ := v.(string)
			seconds, _ := v.(float64)
			switch {
			case strings.EqualFold(name, "outcome") && resp.StatusCode == http.StatusOK && text != "":
				outcome = text
			case strings.EqualFold(name, "budgetSeconds") && resp.StatusCode == http.StatusServiceUnavailable && seconds > 0:
				budget = min(budget, api.Seconds(seconds).Duration())
			}
		}
		return outcome, budget
	}
}
