package aws

// Fault is what the AWS face does to a call instead of answering it.
type Fault struct {
	// Status, Code and Message are the error answer.
	Status  int
	Code    string
	Message string
	// Hang keeps the call open until its caller gives up.
	Hang bool
	// Garble, if not nil, makes another answer of the one that the call would
	// have had, which it gets. Status is then that of the answer, 200 if it is
	// zero, and Code and Message have no meaning. Calls counts the call as
	// "Garbled".
	Garble func(answer []byte) []byte
	// ContentType is that of a garbled answer; empty for text/xml.
	ContentType string
}

// Fail sets what happens to calls through the AWS face: fault is asked for
// each call, by operation and by the ARN or name that it is about; nil lets the
// call pass.
func (a *Account) Fail(fault func(operation, resource string) *Fault) { a.fault = fault }
