package checks

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"cloud.google.com/go/spanner"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// sessionName and timestamp are the parts of an error message, besides the run's suffix, that differ from run to run.
var (
	sessionName = regexp.MustCompile(`sessions/[A-Za-z0-9_-]+`)
	timestamp   = regexp.MustCompile(`\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})`)
)

func (w *workload) redact(text string) string {
	text = strings.Replace(text, w.suffix, "<run>", -1)
	text = sessionName.ReplaceAllString(text, "sessions/<session>")
	return timestamp.ReplaceAllString(text, "<time>")
}

func (w *workload) redactError(err error) error {
	if err == nil {
		return nil
	}
	if n, ok := err.(notAvailable); ok {
		return n
	}
	return errors.New(w.redact(err.Error()))
}

// describe is what an application can learn from an error.
func (w *workload) describe(err error) Detail {
	if err == nil {
		return Detail{"code": codes.OK.String()}
	}
	return Detail{
		"code":    code(err).String(),
		"message": w.redact(message(err)),
		"details": w.statusDetails(err),
	}
}

// code looks through wrapped errors, as v1.0.0's ErrCode does not.
func code(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	if s := findStatus(err, func(*status.Status) bool { return true }); s != nil {
		return s.Code()
	}
	return spanner.ErrCode(err)
}

func message(err error) string {
	if s := findStatus(err, func(*status.Status) bool { return true }); s != nil {
		return s.Message()
	}
	return spanner.ErrDesc(err)
}

// statusDetails lists the type and content of each status detail. The data client's own error type has no details;
// newer releases wrap the error that has them.
func (w *workload) statusDetails(err error) []string {
	details := []string{}
	s := findStatus(err, func(s *status.Status) bool { return len(s.Proto().GetDetails()) > 0 })
	for _, d := range s.Proto().GetDetails() {
		details = append(details, w.redact(fmt.Sprintf("%s %q", d.GetTypeUrl(), d.GetValue())))
	}
	return details
}

// findStatus returns the outermost gRPC status in err's chain that is wanted, or nil.
func findStatus(err error, wanted func(*status.Status) bool) *status.Status {
	for ; err != nil; err = errors.Unwrap(err) {
		if g, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
			if s := g.GRPCStatus(); s != nil && wanted(s) {
				return s
			}
		}
	}
	return nil
}

// expectCode fails unless err has this code. The caller names the operation.
func expectCode(operation string, err error, want codes.Code) error {
	if err == nil {
		return fmt.Errorf("%s: succeeded, expected %v", operation, want)
	}
	if got := code(err); got != want {
		return fmt.Errorf("%s: expected %v, got: %v", operation, want, err)
	}
	return nil
}
