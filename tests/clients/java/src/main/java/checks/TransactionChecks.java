package checks;

import static checks.Check.expect;
import static checks.Observe.fields;
import static checks.Observe.rows;

import com.google.cloud.spanner.DatabaseClient;
import com.google.cloud.spanner.Key;
import com.google.cloud.spanner.KeySet;
import com.google.cloud.spanner.Mutation;
import com.google.cloud.spanner.SpannerException;
import com.google.cloud.spanner.Statement;
import com.google.cloud.spanner.TransactionContext;
import com.google.cloud.spanner.TransactionManager;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

final class TransactionChecks {
  static final List<Check> ALL =
      List.of(
          new Check("read_write_transaction", TransactionChecks::readWriteTransaction),
          new Check("transaction_aborts_and_retries", TransactionChecks::transactionAbortsAndRetries),
          new Check("rollback_leaves_no_trace", TransactionChecks::rollbackLeavesNoTrace));

  private static Map<String, ?> readWriteTransaction(World world) {
    Map<String, Object> seen =
        world
            .client()
            .readWriteTransaction()
            .run(
                transaction -> {
                  KeySet keys =
                      KeySet.newBuilder().addKey(Key.of(Items.key(3))).addKey(Key.of(Items.key(4))).build();
                  var read = rows(transaction.read(Items.TABLE, keys, List.of("Key", "Count")));
                  Statement query =
                      Statement.newBuilder("SELECT COUNT(*) AS n FROM Items WHERE Count < @limit")
                          .bind("limit").to(10)
                          .build();
                  var queried = rows(transaction.executeQuery(query));
                  long first = (long) read.get(0).get("Count");
                  long second = (long) read.get(1).get("Count");
                  transaction.buffer(
                      Mutation.newUpdateBuilder(Items.TABLE)
                          .set("Key").to(Items.key(3))
                          .set("Note").to("moved " + first)
                          .build());
                  transaction.buffer(Items.upsert("moved", first + second));
                  return fields("read", read, "queried", queried);
                });
    Statement query =
        Statement.newBuilder("SELECT Key, Count, Note FROM Items WHERE Key IN UNNEST(@keys) ORDER BY Key")
            .bind("keys").toStringArray(List.of(Items.key(3), "moved"))
            .build();
    var after = rows(world.client().singleUse().executeQuery(query));
    expect("moved 3", after.get(0).get("Note"), "note");
    expect(7L, after.get(1).get("Count"), "sum");
    seen.put("after", after);
    return seen;
  }

  /**
   * Two transactions add one to the same row. Each, after its read, waits until the other one has tried to read too:
   * whichever the endpoint aborts (the emulator draws lots), one must be retried by the library.
   */
  private static Map<String, ?> transactionAbortsAndRetries(World world) throws Exception {
    String key = "contended";
    Items.write(world.client(), key, 0);
    AtomicInteger attempts = new AtomicInteger();
    CountDownLatch firstTried = new CountDownLatch(1);
    CountDownLatch secondTried = new CountDownLatch(1);
    var first = CompletableFuture.runAsync(() -> increment(world.client(), key, attempts, firstTried, secondTried));
    var second = CompletableFuture.runAsync(() -> increment(world.other(), key, attempts, secondTried, firstTried));
    first.get();
    second.get();
    Object count = Items.count(world.client().singleUse(), key);
    expect(2L, count, "count");
    boolean retried = attempts.get() > 2;
    expect(true, retried, "a transaction was retried");
    return fields("count", count, "retried", retried);
  }

  private static void increment(
      DatabaseClient client, String key, AtomicInteger attempts, CountDownLatch tried, CountDownLatch otherTried) {
    client
        .readWriteTransaction()
        .run(
            transaction -> {
              attempts.incrementAndGet();
              long count;
              try {
                count = (long) Items.count(transaction, key);
              } finally {
                tried.countDown();
              }
              otherTried.await(5, TimeUnit.SECONDS);
              transaction.buffer(Items.upsert(key, count + 1));
              return null;
            });
  }

  private static Map<String, ?> rollbackLeavesNoTrace(World world) {
    List<Object> inside;
    try (TransactionManager manager = world.client().transactionManager()) {
      TransactionContext transaction = manager.begin();
      try {
        transaction.executeUpdate(Statement.of("INSERT INTO Items (Key, Count) VALUES ('rolled-back', 1)"));
        transaction.executeUpdate(
            Statement.newBuilder("UPDATE Items SET Count = -1 WHERE Key = @key").bind("key").to(Items.key(5)).build());
        inside = List.of(Items.count(transaction, "rolled-back"), Items.count(transaction, Items.key(5)));
      } catch (SpannerException e) {
        manager.rollback();
        throw e;
      }
      manager.rollback();
    }
    List<Object> after =
        List.of(
            Items.count(world.client().singleUse(), "rolled-back"),
            Items.count(world.client().singleUse(), Items.key(5)));
    expect(List.of(1L, -1L), inside, "inside");
    expect(List.of("no row", 5L), after, "after");
    return fields("inside", inside, "after", after);
  }

  private TransactionChecks() {}
}
