// Command newest runs the checks with the newest release of the client library.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"clients/go/checks"
	"cloud.google.com/go/spanner"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: newest PROJECT TRANSCRIPT")
		os.Exit(2)
	}
	admin, err := newAdmin(context.Background())
	if err != nil {
		fmt.Fprintf(os.Stderr, "admin clients: %v\n", err)
		os.Exit(1)
	}
	os.Exit(checks.Main(checks.Library{
		Variant:      "go-newest",
		OneSession:   true,
		Admin:        admin,
		JSON:         &checks.JSONColumn{Encode: encodeJSON, Decode: decodeJSON},
		QueryWithTag: queryWithTag,
		BatchWrite:   batchWrite,
	}, os.Args[1], os.Args[2]))
}

func encodeJSON(document string) (interface{}, error) {
	column := spanner.NullJSON{Valid: true}
	err := json.Unmarshal([]byte(document), &column.Value)
	return column, err
}

func decodeJSON(row *spanner.Row, column string) (string, error) {
	var value spanner.NullJSON
	if err := row.ColumnByName(column, &value); err != nil {
		return "", err
	}
	return value.String(), nil
}

func queryWithTag(ctx context.Context, client *spanner.Client, statement spanner.Statement, tag string) *spanner.RowIterator {
	return client.Single().QueryWithOptions(ctx, statement, spanner.QueryOptions{
		RequestTag: tag,
		Priority:   sppb.RequestOptions_PRIORITY_LOW,
	})
}

func batchWrite(ctx context.Context, client *spanner.Client, mutations []*spanner.Mutation) error {
	var groups []*spanner.MutationGroup
	for _, m := range mutations {
		groups = append(groups, &spanner.MutationGroup{Mutations: []*spanner.Mutation{m}})
	}
	responses := client.BatchWrite(ctx, groups)
	defer responses.Stop()
	for {
		response, err := responses.Next()
		if err == iterator.Done {
			return nil
		}
		if err != nil {
			return err
		}
		if s := response.GetStatus(); codes.Code(s.GetCode()) != codes.OK {
			return status.FromProto(s).Err()
		}
	}
}
