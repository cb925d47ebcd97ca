package checks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// Detail is what the application saw in one check, reduced to what must be the same in every run.
type Detail map[string]interface{}

const (
	outcomeOK           = "ok"
	outcomeNotAvailable = "n/a"
	outcomeFailed       = "FAIL"
)

type record struct {
	Check   string `json:"check"`
	Outcome string `json:"outcome"`
	Detail  Detail `json:"detail"`
}

// notAvailable ends a check that the library or the emulator has no means for.
type notAvailable struct{ reason string }

func (n notAvailable) Error() string { return n.reason }

// transcript writes one JSON line a check to a file, for comparison with another run, and one line a check to the
// console, for people. Times go to the console only: they differ from run to run.
type transcript struct {
	file                         *os.File
	console                      io.Writer
	passed, failed, notAvailable int
}

func newTranscript(path string, console io.Writer) (*transcript, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &transcript{file: file, console: console}, nil
}

func (t *transcript) add(check string, took time.Duration, detail Detail, err error) error {
	r := record{Check: check, Outcome: outcomeOK, Detail: detail}
	if r.Detail == nil {
		r.Detail = Detail{}
	}
	switch e := err.(type) {
	case nil:
		t.passed++
		fmt.Fprintf(t.console, "ok %s %dms\n", check, took.Milliseconds())
	case notAvailable:
		t.notAvailable++
		r.Outcome = outcomeNotAvailable
		r.Detail["reason"] = e.reason
		fmt.Fprintf(t.console, "n/a %s: %s\n", check, e.reason)
	default:
		t.failed++
		r.Outcome = outcomeFailed
		r.Detail["reason"] = err.Error()
		fmt.Fprintf(t.console, "FAIL %s: %s\n", check, err)
	}

	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	// Messages are compared and read by people: "<run>" must not become "\u003crun\u003e".
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(r); err != nil {
		return err
	}
	_, writeErr := t.file.Write(line.Bytes())
	return writeErr
}

func (t *transcript) close(variant string) error {
	fmt.Fprintf(t.console, "%s: %d passed, %d failed, %d n/a\n", variant, t.passed, t.failed, t.notAvailable)
	return t.file.Close()
}
