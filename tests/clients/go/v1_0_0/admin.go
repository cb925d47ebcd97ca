package main

import (
	"context"
	"errors"

	database "cloud.google.com/go/spanner/admin/database/apiv1"
	instance "cloud.google.com/go/spanner/admin/instance/apiv1"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	databasepb "google.golang.org/genproto/googleapis/spanner/admin/database/v1"
	instancepb "google.golang.org/genproto/googleapis/spanner/admin/instance/v1"
	"google.golang.org/grpc"
)

// admin is the library's two admin clients.
type admin struct {
	databases *database.DatabaseAdminClient
	instances *instance.InstanceAdminClient
}

// newAdmin takes the address: in this release only the data client reads SPANNER_EMULATOR_HOST.
func newAdmin(ctx context.Context, address string) (*admin, error) {
	plaintext := []option.ClientOption{
		option.WithEndpoint(address),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithInsecure()),
	}
	databases, err := database.NewDatabaseAdminClient(ctx, plaintext...)
	if err != nil {
		return nil, err
	}
	instances, err := instance.NewInstanceAdminClient(ctx, plaintext...)
	if err != nil {
		return nil, err
	}
	return &admin{databases: databases, instances: instances}, nil
}

func (a *admin) InstanceConfigs(ctx context.Context, project string) ([]string, error) {
	var names []string
	configs := a.instances.ListInstanceConfigs(ctx, &instancepb.ListInstanceConfigsRequest{Parent: "projects/" + project})
	for {
		config, err := configs.Next()
		if err == iterator.Done {
			return names, nil
		}
		if err != nil {
			return nil, err
		}
		names = append(names, config.Name)
	}
}

func (a *admin) CreateInstance(ctx context.Context, project, instanceID, config string) error {
	operation, err := a.instances.CreateInstance(ctx, &instancepb.CreateInstanceRequest{
		Parent:     "projects/" + project,
		InstanceId: instanceID,
		Instance:   &instancepb.Instance{Config: config, DisplayName: "Client checks", NodeCount: 1},
	})
	if err != nil {
		return err
	}
	_, err = operation.Wait(ctx)
	return err
}

func (a *admin) DeleteInstance(ctx context.Context, name string) error {
	return a.instances.DeleteInstance(ctx, &instancepb.DeleteInstanceRequest{Name: name})
}

func (a *admin) CreateDatabase(ctx context.Context, instance, databaseID string, ddl []string) error {
	operation, err := a.databases.CreateDatabase(ctx, &databasepb.CreateDatabaseRequest{
		Parent:          instance,
		CreateStatement: "CREATE DATABASE `" + databaseID + "`",
		ExtraStatements: ddl,
	})
	if err != nil {
		return err
	}
	_, err = operation.Wait(ctx)
	return err
}

func (a *admin) UpdateDatabaseDDL(ctx context.Context, name string, ddl []string) error {
	operation, err := a.databases.UpdateDatabaseDdl(ctx, &databasepb.UpdateDatabaseDdlRequest{Database: name, Statements: ddl})
	if err != nil {
		return err
	}
	return operation.Wait(ctx)
}

func (a *admin) DatabaseDDL(ctx context.Context, name string) ([]string, error) {
	response, err := a.databases.GetDatabaseDdl(ctx, &databasepb.GetDatabaseDdlRequest{Database: name})
	return response.GetStatements(), err
}

func (a *admin) Databases(ctx context.Context, instance string, pageSize int32) ([]string, error) {
	var names []string
	databases := a.databases.ListDatabases(ctx, &databasepb.ListDatabasesRequest{Parent: instance, PageSize: pageSize})
	for {
		database, err := databases.Next()
		if err == iterator.Done {
			return names, nil
		}
		if err != nil {
			return nil, err
		}
		names = append(names, database.Name)
	}
}

func (a *admin) DropDatabase(ctx context.Context, name string) error {
	return a.databases.DropDatabase(ctx, &databasepb.DropDatabaseRequest{Database: name})
}

func (a *admin) Close() error {
	return errors.Join(a.databases.Close(), a.instances.Close())
}
