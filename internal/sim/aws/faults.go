package aws

// Fault is what the API does with a call instead of answering it.
type Fault struct {
	// Status, Code and Message are the error answer.
	Status  int
	Code    string
	Message string
	// Hang keeps the call open until its caller gives up.
	Hang bool
	// Garble, if not nil, gets the answer that the call would have had, and makes
	// another one of it. Status is then the status of that answer, 200 if it is zero,
	// and Code and Message have no meaning. Calls counts the call as "Garbled".
	Garble func(answer []byte) []byte
	// ContentType is the content type of a garbled answer; empty means text/xml.
	ContentType string
}

// Fail sets what happens to calls over HTTP. For each call, fault is called with the
// operation and with the ARN or name that the call is about. If it returns nil, the call
// passes.
func (a *Account) Fail(fault func(operation, resource string) *Fault) { a.fault = fault }
