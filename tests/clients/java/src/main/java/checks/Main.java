package checks;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * Runs every check, in order, against SPANNER_EMULATOR_HOST (the library reads it itself). Standard output is for
 * people; the transcript holds only what must be the same for any correct endpoint.
 */
public final class Main {
  public static void main(String[] args) throws Exception {
    String variant = args[0];
    Path transcript = Path.of(args[1]);
    String project = System.getenv().getOrDefault("SPANNER_PROJECT", "test-project");
    World world = World.create(project);

    Report report =
        new Report(variant, world.instanceId().getInstance(), world.databaseId().getDatabase());
    for (Check check : allChecks()) {
      boolean passed = report.run(check, world);
      if (check == SchemaChecks.CREATE && !passed) {
        report.stop("there is no database to work on");
      }
    }
    report.write(transcript);
    boolean noneFailed = report.finish();
    // A check that hung would keep the process alive: everything is written, so leave.
    System.exit(noneFailed ? 0 : 1);
  }

  private static List<Check> allChecks() {
    List<Check> checks = new ArrayList<>();
    checks.add(SchemaChecks.CREATE);
    checks.addAll(WriteChecks.ALL);
    checks.addAll(TransactionChecks.ALL);
    checks.addAll(ReadChecks.ALL);
    checks.addAll(BulkChecks.ALL);
    checks.addAll(ErrorChecks.ALL);
    checks.add(SchemaChecks.DROP);
    return checks;
  }

  private Main() {}
}
