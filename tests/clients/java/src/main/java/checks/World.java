package checks;

import com.google.cloud.spanner.DatabaseClient;
import com.google.cloud.spanner.DatabaseId;
import com.google.cloud.spanner.InstanceId;
import com.google.cloud.spanner.Spanner;
import com.google.cloud.spanner.SpannerOptions;
import java.util.concurrent.ThreadLocalRandom;

/**
 * The library's entry points and the names of this run's own instance and database.
 *
 * <p>There are two entry points because the library now does everything on one multiplexed session, and the emulator
 * makes a regular one of it, which holds one live transaction. Where two transactions must live at the same time, the
 * second belongs to another client, with a session of its own.
 */
record World(Spanner spanner, Spanner otherSpanner, DatabaseId databaseId) {
  static World create(String project) {
    return new World(options(project).build().getService(), options(project).build().getService(), database(project));
  }

  /** The library reads SPANNER_EMULATOR_HOST itself. */
  static SpannerOptions.Builder options(String project) {
    return SpannerOptions.newBuilder().setProjectId(project);
  }

  private static DatabaseId database(String project) {
    String suffix = String.format("%010x", ThreadLocalRandom.current().nextLong(1L << 40));
    return DatabaseId.of(project, "checks-" + suffix, "db-" + suffix);
  }

  InstanceId instanceId() {
    return databaseId.getInstanceId();
  }

  /** The library hands out the same client for the same database every time. */
  DatabaseClient client() {
    return spanner.getDatabaseClient(databaseId);
  }

  DatabaseClient other() {
    return otherSpanner.getDatabaseClient(databaseId);
  }

  void close() {
    spanner.close();
    otherSpanner.close();
  }
}
