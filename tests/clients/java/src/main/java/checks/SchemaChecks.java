package checks;

import static checks.Observe.fields;

import com.google.cloud.spanner.Database;
import com.google.cloud.spanner.DatabaseAdminClient;
import com.google.cloud.spanner.ErrorCode;
import com.google.cloud.spanner.InstanceAdminClient;
import com.google.cloud.spanner.InstanceConfigId;
import com.google.cloud.spanner.InstanceInfo;
import java.util.List;
import java.util.Map;

final class SchemaChecks {
  static final Check CREATE = new Check("create_instance_and_database", SchemaChecks::createInstanceAndDatabase);
  static final Check DROP = new Check("drop_database", SchemaChecks::dropDatabase);

  private static final String CREATE_TABLE =
      """
      CREATE TABLE Items (
        Key STRING(64) NOT NULL,
        Count INT64,
        Ratio FLOAT64,
        Live BOOL,
        Body BYTES(MAX),
        MadeAt TIMESTAMP,
        Tags ARRAY<STRING(MAX)>,
        Extra JSON,
      ) PRIMARY KEY (Key)""";
  private static final String CREATE_INDEX = "CREATE INDEX ItemsByCount ON Items (Count)";
  private static final String ADD_COLUMN = "ALTER TABLE Items ADD COLUMN Note STRING(MAX)";

  private static Map<String, ?> createInstanceAndDatabase(World world) throws Exception {
    String instance = world.instanceId().getInstance();
    String database = world.databaseId().getDatabase();
    InstanceInfo info =
        InstanceInfo.newBuilder(world.instanceId())
            .setInstanceConfigId(InstanceConfigId.of(world.instanceId().getProject(), "emulator-config"))
            .setDisplayName("Client checks")
            .setNodeCount(1)
            .build();
    world.spanner().getInstanceAdminClient().createInstance(info).get();
    DatabaseAdminClient admin = world.spanner().getDatabaseAdminClient();
    Database created = admin.createDatabase(instance, database, List.of(CREATE_TABLE, CREATE_INDEX)).get();
    admin.updateDatabaseDdl(instance, database, List.of(ADD_COLUMN), null).get();
    return fields("state", created.getState().name(), "statements", admin.getDatabaseDdl(instance, database));
  }

  private static Map<String, ?> dropDatabase(World world) throws Exception {
    String instance = world.instanceId().getInstance();
    String database = world.databaseId().getDatabase();
    DatabaseAdminClient databases = world.spanner().getDatabaseAdminClient();
    databases.dropDatabase(instance, database);
    Map<String, ?> gone =
        Observe.expectError(ErrorCode.NOT_FOUND, () -> databases.getDatabase(instance, database));
    InstanceAdminClient instances = world.spanner().getInstanceAdminClient();
    instances.deleteInstance(instance);
    Map<String, ?> instanceGone =
        Observe.expectError(ErrorCode.NOT_FOUND, () -> instances.getInstance(instance));
    world.close();
    return fields("database", gone, "instance", instanceGone);
  }

  private SchemaChecks() {}
}
