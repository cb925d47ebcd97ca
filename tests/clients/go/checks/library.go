package checks

import (
	"context"

	"cloud.google.com/go/spanner"
)

// Library is what differs between the releases of the client library. Everything else in this package compiles
// against each of them: the importing module's go.mod decides which one that is.
type Library struct {
	// Variant is the name under which this release is run.
	Variant string

	// OneSession says that this release runs all of a client's calls in one multiplexed session. The emulator makes an
	// ordinary session of it, which holds one transaction at a time: transactions that overlap need a client each.
	OneSession bool

	// Admin creates and drops instances and databases.
	Admin Admin

	// JSON reads and writes JSON columns; nil where the library does not know the type.
	JSON *JSONColumn

	// QueryWithTag runs a single-use query with a request tag; nil where the library has no tags.
	QueryWithTag func(ctx context.Context, client *spanner.Client, statement spanner.Statement, tag string) *spanner.RowIterator

	// BatchWrite writes each mutation as a group of its own; nil where the library has no BatchWrite.
	BatchWrite func(ctx context.Context, client *spanner.Client, mutations []*spanner.Mutation) error
}

// Admin is the part of the library's admin clients that the checks use. Names are full resource names, except IDs.
type Admin interface {
	InstanceConfigs(ctx context.Context, project string) ([]string, error)
	CreateInstance(ctx context.Context, project, instanceID, config string) error
	DeleteInstance(ctx context.Context, instance string) error
	CreateDatabase(ctx context.Context, instance, databaseID string, ddl []string) error
	UpdateDatabaseDDL(ctx context.Context, database string, ddl []string) error
	DatabaseDDL(ctx context.Context, database string) ([]string, error)
	// Databases lists the instance's databases over as many pages as there are when each holds pageSize of them.
	Databases(ctx context.Context, instance string, pageSize int32) ([]string, error)
	DropDatabase(ctx context.Context, database string) error
	Close() error
}

// JSONColumn converts between a JSON document and what the library stores in a JSON column.
type JSONColumn struct {
	Encode func(document string) (interface{}, error)
	Decode func(row *spanner.Row, column string) (string, error)
}
