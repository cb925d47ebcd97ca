package checks;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** Times each check, prints a line for it and keeps its transcript entry. */
final class Report {
  // Far above the slowest check (a few seconds): a hang becomes a failure.
  private static final long CHECK_TIMEOUT_SECONDS = 30;

  private final Gson gson = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();
  private final ExecutorService threads = Executors.newCachedThreadPool();
  private final List<Map<String, Object>> entries = new ArrayList<>();
  private final String variant;
  private final String instance;
  private final String database;
  private String stopped;

  Report(String variant, String instance, String database) {
    this.variant = variant;
    this.instance = instance;
    this.database = database;
  }

  /** Every check from here on fails for {@code reason}, without being tried. */
  void stop(String reason) {
    stopped = reason;
  }

  /** True when the check did not fail. */
  boolean run(Check check, World world) throws InterruptedException {
    if (stopped != null) {
      return fail(check, Map.of("message", stopped), "not run: " + stopped);
    }
    long start = System.nanoTime();
    Future<Map<String, ?>> result = threads.submit(() -> check.body().run(world));
    try {
      Map<String, ?> detail = result.get(CHECK_TIMEOUT_SECONDS, TimeUnit.SECONDS);
      long ms = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - start);
      record(check, "ok", detail, "ok " + check.name() + " " + ms + "ms");
      return true;
    } catch (TimeoutException e) {
      result.cancel(true);
      String reason = "no result after " + CHECK_TIMEOUT_SECONDS + " s";
      return fail(check, Map.of("message", reason), reason);
    } catch (ExecutionException e) {
      if (e.getCause() instanceof Check.NotAvailable lacking) {
        Map<String, Object> detail = new LinkedHashMap<>();
        detail.put("reason", lacking.getMessage());
        detail.putAll(lacking.detail());
        record(check, "n/a", detail, "n/a " + check.name() + ": " + lacking.getMessage());
        return true;
      }
      Throwable cause = e.getCause();
      return fail(check, Observe.errorFields(cause), String.valueOf(cause));
    }
  }

  private boolean fail(Check check, Map<String, ?> detail, String reason) {
    record(check, "FAIL", detail, "FAIL " + check.name() + ": " + reason.replaceAll("\\s+", " "));
    return false;
  }

  private void record(Check check, String outcome, Map<String, ?> detail, String line) {
    Map<String, Object> entry = new LinkedHashMap<>();
    entry.put("check", check.name());
    entry.put("outcome", outcome);
    entry.put("detail", detail);
    entries.add(entry);
    System.out.println(line);
  }

  void write(Path path) throws IOException {
    StringBuilder lines = new StringBuilder();
    for (Map<String, Object> entry : entries) {
      lines.append(withoutWhatDiffers(gson.toJson(entry))).append('\n');
    }
    Files.writeString(path, lines);
  }

  /** Prints the last line; true when nothing failed. */
  boolean finish() {
    System.out.printf("%s: %d passed, %d failed, %d n/a%n", variant, count("ok"), count("FAIL"), count("n/a"));
    return count("FAIL") == 0;
  }

  private long count(String outcome) {
    return entries.stream().filter(entry -> entry.get("outcome").equals(outcome)).count();
  }

  private String withoutWhatDiffers(String text) {
    return text.replace(instance, "INSTANCE")
        .replace(database, "DATABASE")
        .replaceAll(" - RequestId: [0-9a-f.]+", "")
        .replaceAll("sessions/[^\\s\"\\\\/]+", "sessions/ID")
        .replaceAll("(127\\.0\\.0\\.1|localhost|\\[::1\\]):\\d+", "ENDPOINT");
  }
}
