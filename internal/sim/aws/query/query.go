// Package query speaks the Query protocol of AWS: it reads forms and writes XML. It
// knows no operation.
package query

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Error is an error answer of an AWS API.
type Error struct {
	Status        int
	Code, Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Errorf makes an error answer.
func Errorf(status int, code, format string, args ...any) *Error {
	return &Error{status, code, fmt.Sprintf(format, args...)}
}

// AsError is err as the API shows it.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{500, "InternalFailure", err.Error()}
}

// Invalid is the error of a request with a bad value.
func Invalid(format string, args ...any) error {
	return Errorf(http.StatusBadRequest, "ValidationError", format, args...)
}

// Missing is the error of a request that lacks a member.
func Missing(member string) error {
	return Invalid("1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", member)
}

// Form is what a request asks for.
type Form struct{ url.Values }

// List reads name.member.1, name.member.2 and so on.
func (f Form) List(name string) []string {
	var vs []string
	for {
		v := f.Get(name + ".member." + strconv.Itoa(len(vs)+1))
		if v == "" {
			return vs
		}
		vs = append(vs, v)
	}
}

// Number reads a number between low and high, or the fallback if there is none.
func (f Form) Number(name string, low, high, fallback int) (int, error) {
	v := f.Get(name)
	if v == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		return 0, Invalid("Value '%s' at '%s' failed to satisfy constraint: Member must have value between %d and %d", v, name, low, high)
	}
	return n, nil
}

// Page takes the page that Marker and PageSize ask for from all results. A marker is the
// index of the first result of a page.
func Page[T any](f Form, all []T) (results []T, next string, err error) {
	size, err := f.Number("PageSize", 1, 400, 400)
	if err != nil {
		return nil, "", err
	}
	from, err := f.Number("Marker", 0, len(all), 0)
	if err != nil {
		return nil, "", err
	}
	to := min(from+size, len(all))
	if to < len(all) {
		next = strconv.Itoa(to)
	}
	return all[from:to], next, nil
}

// Success renders <ActionResponse><ActionResult>. The result of an operation is
// a struct for encoding/xml, or the finished inner XML.
func Success(action, namespace, id string, result any) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<%sResponse xmlns="%s">`, action, namespace)
	name := action + "Result"
	if inner, done := result.([]byte); done {
		b.Grow(len(inner) + 256)
		b.WriteString("<" + name + ">")
		b.Write(inner)
		b.WriteString("</" + name + ">")
	} else if err := xml.NewEncoder(&b).EncodeElement(result, xml.StartElement{Name: xml.Name{Local: name}}); err != nil {
		panic(err) // a result that cannot be XML is a bug in the operation
	}
	fmt.Fprintf(&b, "<ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></%sResponse>", id, action)
	return b.Bytes()
}

type xmlError struct {
	XMLName   xml.Name
	Type      string `xml:"Error>Type"`
	Code      string `xml:"Error>Code"`
	Message   string `xml:"Error>Message"`
	RequestID string `xml:"RequestId"`
}

// Failure renders an error answer.
func Failure(e *Error, namespace, id string) []byte {
	kind := "Sender"
	if e.Status >= 500 {
		kind = "Receiver"
	}
	body, err := xml.Marshal(xmlError{xml.Name{Space: namespace, Local: "ErrorResponse"}, kind, e.Code, e.Message, id})
	if err != nil {
		panic(err)
	}
	return body
}

// AppendElement appends an element, or nothing if it would be empty.
func AppendElement(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	b = append(append(append(b, '<'), name...), '>')
	if plain(text) {
		b = append(b, text...)
	} else {
		var escaped bytes.Buffer
		_ = xml.EscapeText(&escaped, []byte(text)) // a Buffer takes everything
		b = append(b, escaped.Bytes()...)
	}
	return append(append(append(b, "</"...), name...), '>')
}

// plain says whether XML needs no escapes for the text.
func plain(text string) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case c < ' ', c > '~', c == '<', c == '>', c == '&', c == '"', c == '\'':
			return false
		}
	}
	return true
}

// Time is t as the API writes it.
func Time(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
