package checks

import (
	"context"
	"fmt"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/spanner"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
)

// requestMetadataLarge sends a large parameter, a large header and, where the library has them, a request tag.
func requestMetadataLarge(ctx context.Context, w *workload) (Detail, error) {
	const parameterBytes, headerBytes = 500000, 4000
	ctx = metadata.AppendToOutgoingContext(ctx, "x-application-context", strings.Repeat("0123456789", headerBytes/10))
	statement := spanner.Statement{
		SQL:    "SELECT BYTE_LENGTH(@text), TO_HEX(SHA256(@text)), @text",
		Params: map[string]interface{}{"text": strings.Repeat("spanner è ", parameterBytes/11)},
	}
	rows := w.client.Single().Query(ctx, statement)
	if w.library.QueryWithTag != nil {
		rows = w.library.QueryWithTag(ctx, w.client, statement, "app=clients,action=large")
	}
	detail := Detail{"tagged": w.library.QueryWithTag != nil}
	err := rows.Do(func(row *spanner.Row) error {
		var length int64
		var sha, echo string
		if err := row.Columns(&length, &sha, &echo); err != nil {
			return err
		}
		detail["bytes"], detail["sha256"] = length, sha
		if echo != statement.Params["text"] {
			return fmt.Errorf("the parameter came back changed: %d bytes", len(echo))
		}
		return nil
	})
	return detail, err
}

func errorNotFound(ctx context.Context, w *workload) (Detail, error) {
	_, tableErr := firstColumn(w.client.Single().Read(ctx, "NoSuchTable", spanner.AllKeys(), []string{"Id"}))
	if err := expectCode("read of a missing table", tableErr, codes.NotFound); err != nil {
		return nil, err
	}
	_, columnErr := firstColumn(w.client.Single().Read(ctx, "Singers", spanner.AllKeys(), []string{"NoSuchColumn"}))
	if err := expectCode("read of a missing column", columnErr, codes.NotFound); err != nil {
		return nil, err
	}
	missing := w.instance + "/databases/missing"
	databaseErr := w.queryDatabase(ctx, missing)
	if err := expectCode("query of a missing database", databaseErr, codes.NotFound); err != nil {
		return nil, err
	}
	_, adminErr := w.library.Admin.DatabaseDDL(ctx, missing)
	if err := expectCode("DDL of a missing database", adminErr, codes.NotFound); err != nil {
		return nil, err
	}
	return Detail{"table": w.describe(tableErr), "column": w.describe(columnErr),
		"database": w.describe(databaseErr), "admin": w.describe(adminErr)}, nil
}

// queryDatabase returns the first error, be it the client's or the query's: releases differ in when they look.
func (w *workload) queryDatabase(ctx context.Context, database string) error {
	client, err := spanner.NewClient(ctx, database)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = scalar(client.Single().Query(ctx, spanner.NewStatement("SELECT 1")))
	return err
}

func errorAlreadyExists(ctx context.Context, w *workload) (Detail, error) {
	m, err := w.insertSinger(singerNumber(0))
	if err != nil {
		return nil, err
	}
	_, rowErr := w.client.Apply(ctx, []*spanner.Mutation{m})
	if err := expectCode("insert of an existing row", rowErr, codes.AlreadyExists); err != nil {
		return nil, err
	}
	databaseErr := w.library.Admin.CreateDatabase(ctx, w.instance, path.Base(w.database), nil)
	if err := expectCode("creation of an existing database", databaseErr, codes.AlreadyExists); err != nil {
		return nil, err
	}
	return Detail{"row": w.describe(rowErr), "database": w.describe(databaseErr)}, nil
}

func errorInvalidSQL(ctx context.Context, w *workload) (Detail, error) {
	detail := Detail{}
	for name, sql := range map[string]string{
		"syntax":            "SELECT FROM WHERE",
		"unknown_table":     "SELECT * FROM NoSuchTable",
		"missing_parameter": "SELECT @nothing + 1",
		"non_ascii":         "SELECT 'ü' FROM `größe`",
	} {
		_, err := scalar(w.client.Single().Query(ctx, spanner.NewStatement(sql)))
		if err := expectCode(name, err, codes.InvalidArgument); err != nil {
			return nil, err
		}
		detail[name] = w.describe(err)
	}
	// This one fails after it has begun.
	_, err := scalar(w.client.Single().Query(ctx, spanner.NewStatement("SELECT DIV(1, n - 900) FROM UNNEST(GENERATE_ARRAY(1, 1000)) AS n")))
	if err := expectCode("division by zero", err, codes.OutOfRange); err != nil {
		return nil, err
	}
	detail["division_by_zero"] = w.describe(err)
	return detail, nil
}

// slowQuery keeps the server busy for more than ten times slowDeadline. It is no slower than that because the emulator
// runs a cancelled query to its end.
const (
	slowQuery    = "SELECT COUNT(*) FROM Singers AS a CROSS JOIN Singers AS b WHERE a.Rating + b.Rating < 1"
	slowDeadline = 50 * time.Millisecond
)

func errorDeadline(ctx context.Context, w *workload) (Detail, error) {
	detail := Detail{}
	for name, deadline := range map[string]time.Duration{"before_it_is_sent": time.Millisecond, "while_it_runs": slowDeadline} {
		short, cancel := context.WithTimeout(ctx, deadline)
		_, err := scalar(w.client.Single().Query(short, spanner.NewStatement(slowQuery)))
		cancel()
		if err := expectCode(name, err, codes.DeadlineExceeded); err != nil {
			return nil, err
		}
		detail[name] = code(err).String()
	}
	return detail, w.stillWorks(ctx)
}

// errorCancel cancels two queries, one while the server works and one between two messages of its result.
func errorCancel(ctx context.Context, w *workload) (Detail, error) {
	working, cancelWorking := context.WithCancel(ctx)
	defer cancelWorking()
	time.AfterFunc(slowDeadline, cancelWorking)
	_, workingErr := scalar(w.client.Single().Query(working, spanner.NewStatement(slowQuery)))
	if err := expectCode("cancelled while the server works", workingErr, codes.Canceled); err != nil {
		return nil, err
	}
	if err := w.stillWorks(ctx); err != nil {
		return nil, err
	}

	streaming, cancelStreaming := context.WithCancel(ctx)
	defer cancelStreaming()
	firstMessage := &onFirstMessage{of: "/google.spanner.v1.Spanner/ExecuteStreamingSql", do: cancelStreaming}
	watched, done, err := w.withClient(ctx, option.WithGRPCDialOption(grpc.WithStatsHandler(firstMessage)))
	if err != nil {
		return nil, err
	}
	defer done()
	_, streamingErr := firstColumn(watched.client.Single().Query(streaming, spanner.NewStatement(
		"SELECT REPEAT(CAST(n AS STRING), 1000) FROM UNNEST(GENERATE_ARRAY(100001, 105000)) AS n")))
	if err := expectCode("cancelled between two messages", streamingErr, codes.Canceled); err != nil {
		return nil, err
	}
	if !firstMessage.seen() {
		return nil, fmt.Errorf("no message of the result came before the cancellation")
	}
	return Detail{"while_the_server_works": code(workingErr).String(), "between_two_messages": code(streamingErr).String()},
		watched.stillWorks(ctx)
}

// onFirstMessage acts when the first message of a method's response arrives. The library hides that moment: it buffers
// a result that has no resume tokens, as the emulator's have none, up to its end.
type onFirstMessage struct {
	of   string
	do   func()
	once sync.Once
	came atomic.Bool
}

func (h *onFirstMessage) seen() bool { return h.came.Load() }

type methodKey struct{}

func (h *onFirstMessage) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, methodKey{}, info.FullMethodName)
}

func (h *onFirstMessage) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if _, isMessage := event.(*stats.InPayload); isMessage && ctx.Value(methodKey{}) == h.of {
		h.came.Store(true)
		h.once.Do(h.do)
	}
}

func (h *onFirstMessage) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	return ctx
}

func (h *onFirstMessage) HandleConn(context.Context, stats.ConnStats) {}

func (w *workload) stillWorks(ctx context.Context) error {
	if err := w.readOneSinger(ctx, 0); err != nil {
		return fmt.Errorf("afterwards: %v", err)
	}
	return nil
}
