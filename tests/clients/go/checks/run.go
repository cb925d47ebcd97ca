// Package checks runs one workload of a Spanner application through the client library that the importing module
// selects, and records what the library made of it. It holds no expectation about who answers: run against Spanner's
// emulator directly and through something that stands in between, the two transcripts must be equal.
package checks

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"cloud.google.com/go/spanner"
	"google.golang.org/api/option"
)

// checkTimeout bounds one check, so that a call that hangs is a failed check and not a hung run. The slowest check
// takes a few seconds.
const checkTimeout = 30 * time.Second

// cleanupTimeout bounds the removal of what a failed run left behind.
const cleanupTimeout = 10 * time.Second

type check struct {
	name string
	run  func(context.Context, *workload) (Detail, error)
}

// allChecks is in the order of the transcript. The checks share one database: writes go to rows that no later check
// counts, except where a comment says so.
var allChecks = []check{
	{"create_instance_and_database", createInstanceAndDatabase},
	{"insert_mutations", insertMutations},
	{"read_by_key", readByKey},
	{"read_by_index", readByIndex},
	{"read_key_range_with_limit", readKeyRangeWithLimit},
	{"dml_insert_update_delete_with_parameters", dmlInsertUpdateDeleteWithParameters},
	{"batch_dml", batchDML},
	{"read_write_transaction", readWriteTransaction},
	{"transaction_aborts_and_retries", transactionAbortsAndRetries},
	{"rollback_leaves_no_trace", rollbackLeavesNoTrace},
	{"multi_use_snapshot", multiUseSnapshot},
	{"stale_read", staleRead},
	{"exact_time_read", exactTimeRead},
	{"large_streamed_result", largeStreamedResult},
	{"partitioned_query", partitionedQuery},
	{"partitioned_read", partitionedRead},
	{"partitioned_dml", partitionedDML},
	{"batch_write", batchWrite},
	{"fifty_concurrent_readers", fiftyConcurrentReaders},
	{"request_metadata_large", requestMetadataLarge},
	{"error_not_found", errorNotFound},
	{"error_already_exists", errorAlreadyExists},
	{"error_invalid_sql", errorInvalidSQL},
	{"error_deadline", errorDeadline},
	{"error_cancel", errorCancel},
	{"drop_database", dropDatabase},
}

// workload is the state that the checks share.
type workload struct {
	library  Library
	suffix   string
	project  string
	instance string
	database string
	client   *spanner.Client
	// created is true while the instance exists.
	created bool
}

// Main runs every check, writes the transcript to path, and returns the process's exit code.
func Main(library Library, project, path string) int {
	failed, err := run(library, project, path)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", library.Variant, err)
		return 1
	}
	if failed > 0 {
		return 1
	}
	return 0
}

func run(library Library, project, path string) (failed int, err error) {
	suffix, err := randomSuffix()
	if err != nil {
		return 0, err
	}
	w := &workload{library: library, suffix: suffix, project: project}
	w.instance = fmt.Sprintf("projects/%s/instances/go-%s", project, suffix)
	w.database = fmt.Sprintf("%s/databases/music-%s", w.instance, suffix)
	defer w.cleanUp()

	t, err := newTranscript(path, os.Stdout)
	if err != nil {
		return 0, err
	}
	for _, c := range allChecks {
		started := time.Now()
		detail, checkErr := w.runCheck(c)
		if err := t.add(c.name, time.Since(started), detail, checkErr); err != nil {
			return 0, err
		}
	}
	return t.failed, t.close(library.Variant)
}

func (w *workload) runCheck(c check) (Detail, error) {
	if w.client == nil && c.name != allChecks[0].name {
		return nil, fmt.Errorf("there is no database to run it on")
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()

	type result struct {
		detail Detail
		err    error
	}
	done := make(chan result, 1)
	go func() {
		detail, err := c.run(ctx, w)
		done <- result{detail, err}
	}()
	select {
	case r := <-done:
		return r.detail, w.redactError(r.err)
	case <-time.After(checkTimeout + time.Second):
		return nil, fmt.Errorf("the library ignored a deadline of %v", checkTimeout)
	}
}

// withClient is the same workload with another client of the same database. done closes that client.
func (w *workload) withClient(ctx context.Context, options ...option.ClientOption) (other *workload, done func(), err error) {
	client, err := spanner.NewClient(ctx, w.database, options...)
	if err != nil {
		return nil, nil, fmt.Errorf("new client: %v", err)
	}
	copied := *w
	copied.client = client
	return &copied, client.Close, nil
}

// overlapping is the workload to run a transaction with while one of w's is open.
func (w *workload) overlapping(ctx context.Context) (other *workload, done func(), err error) {
	if !w.library.OneSession {
		return w, func() {}, nil
	}
	return w.withClient(ctx)
}

// cleanUp removes what a run that failed half-way has left. After a run that passed there is nothing to remove.
func (w *workload) cleanUp() {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	if w.client != nil {
		w.client.Close()
	}
	if w.created {
		_ = w.library.Admin.DropDatabase(ctx, w.database)
		_ = w.library.Admin.DeleteInstance(ctx, w.instance)
	}
	_ = w.library.Admin.Close()
}

func randomSuffix() (string, error) {
	var b [6]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return hex.EncodeToString(b[:]), nil
}
