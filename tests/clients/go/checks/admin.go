package checks

import (
	"context"
	"fmt"
	"path"
	"sort"

	"cloud.google.com/go/spanner"
	"google.golang.org/grpc/codes"
)

func createInstanceAndDatabase(ctx context.Context, w *workload) (Detail, error) {
	admin := w.library.Admin
	configs, err := admin.InstanceConfigs(ctx, w.project)
	if err != nil {
		return nil, fmt.Errorf("list instance configs: %v", err)
	}
	if len(configs) == 0 {
		return nil, fmt.Errorf("no instance config to create an instance with")
	}
	sort.Strings(configs)
	if err := admin.CreateInstance(ctx, w.project, path.Base(w.instance), configs[0]); err != nil {
		return nil, fmt.Errorf("create instance: %v", err)
	}
	w.created = true
	if err := admin.CreateDatabase(ctx, w.instance, path.Base(w.database), w.ddl()); err != nil {
		return nil, fmt.Errorf("create database: %v", err)
	}
	if err := admin.UpdateDatabaseDDL(ctx, w.database, laterDDL); err != nil {
		return nil, fmt.Errorf("update DDL: %v", err)
	}
	ddl, err := admin.DatabaseDDL(ctx, w.database)
	if err != nil {
		return nil, fmt.Errorf("get DDL: %v", err)
	}
	databases, err := w.listDatabasesOverPages(ctx)
	if err != nil {
		return nil, err
	}
	if w.client, err = spanner.NewClient(ctx, w.database); err != nil {
		return nil, fmt.Errorf("new client: %v", err)
	}
	return Detail{"instance_configs": configs, "ddl": ddl, "databases": databases}, nil
}

// listDatabasesOverPages lists two databases at one a page, so that a page token makes its way there and back.
func (w *workload) listDatabasesOverPages(ctx context.Context) ([]string, error) {
	admin := w.library.Admin
	second := w.instance + "/databases/second"
	if err := admin.CreateDatabase(ctx, w.instance, path.Base(second), nil); err != nil {
		return nil, fmt.Errorf("create second database: %v", err)
	}
	databases, err := admin.Databases(ctx, w.instance, 1)
	if err != nil {
		return nil, fmt.Errorf("list databases: %v", err)
	}
	sort.Strings(databases)
	if err := sameStrings("databases", databases, []string{w.database, second}); err != nil {
		return nil, err
	}
	if err := admin.DropDatabase(ctx, second); err != nil {
		return nil, fmt.Errorf("drop second database: %v", err)
	}
	for i := range databases {
		databases[i] = w.redact(databases[i])
	}
	return databases, nil
}

func dropDatabase(ctx context.Context, w *workload) (Detail, error) {
	admin := w.library.Admin
	if err := admin.DropDatabase(ctx, w.database); err != nil {
		return nil, fmt.Errorf("drop database: %v", err)
	}
	_, ddlErr := admin.DatabaseDDL(ctx, w.database)
	if err := expectCode("get DDL after the drop", ddlErr, codes.NotFound); err != nil {
		return nil, err
	}
	_, queryErr := w.count(ctx, "SELECT 1")
	if err := expectCode("query after the drop", queryErr, codes.NotFound); err != nil {
		return nil, err
	}
	if err := admin.DeleteInstance(ctx, w.instance); err != nil {
		return nil, fmt.Errorf("delete instance: %v", err)
	}
	w.created = false
	return Detail{"ddl_after": w.describe(ddlErr), "query_after": w.describe(queryErr)}, nil
}
