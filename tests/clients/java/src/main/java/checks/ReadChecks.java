package checks;

import static checks.Check.expect;
import static checks.Observe.fields;

import com.google.cloud.Timestamp;
import com.google.cloud.spanner.DatabaseClient;
import com.google.cloud.spanner.ReadOnlyTransaction;
import com.google.cloud.spanner.Statement;
import com.google.cloud.spanner.TimestampBound;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** Reads of the past, and reads at one timestamp. */
final class ReadChecks {
  static final List<Check> ALL =
      List.of(
          new Check("multi_use_snapshot", ReadChecks::multiUseSnapshot),
          new Check("stale_read", ReadChecks::staleRead),
          new Check("exact_time_read", ReadChecks::exactTimeRead));

  // The distance between two writes that a stale read must tell apart: the client's and the endpoint's clock are one.
  private static final long GAP_MS = 400;

  private static Map<String, ?> multiUseSnapshot(World world) {
    DatabaseClient client = world.client();
    String key = "snapshot";
    Items.write(client, key, 1);
    try (ReadOnlyTransaction snapshot = client.readOnlyTransaction()) {
      Object before = Items.count(snapshot, key);
      Items.write(world.other(), key, 2);
      Object after = Items.count(snapshot, key);
      Statement query = Statement.newBuilder("SELECT Count FROM Items WHERE Key = @key").bind("key").to(key).build();
      Object queried = Observe.rows(snapshot.executeQuery(query)).get(0).get("Count");
      Object outside = Items.count(world.other().singleUse(), key);
      boolean hasTimestamp = snapshot.getReadTimestamp().getSeconds() > 0;
      expect(List.of(1L, 1L, 1L, 2L), List.of(before, after, queried, outside), "counts");
      expect(true, hasTimestamp, "the snapshot has a read timestamp");
      return fields(
          "before", before, "after", after, "queried", queried, "outside", outside, "hasTimestamp", hasTimestamp);
    }
  }

  private static Map<String, ?> staleRead(World world) throws InterruptedException {
    DatabaseClient client = world.client();
    String key = "stale";
    Items.write(client, key, 1);
    long firstWritten = System.currentTimeMillis();
    Thread.sleep(2 * GAP_MS);
    Items.write(client, key, 2);
    // A timestamp half-way between the writes sees the first; any in the last GAP_MS sees the second.
    long staleness = System.currentTimeMillis() - firstWritten - GAP_MS;
    Object exact =
        Items.count(client.singleUse(TimestampBound.ofExactStaleness(staleness, TimeUnit.MILLISECONDS)), key);
    Thread.sleep(2 * GAP_MS);
    Object bounded =
        Items.count(client.singleUse(TimestampBound.ofMaxStaleness(GAP_MS, TimeUnit.MILLISECONDS)), key);
    expect(List.of(1L, 2L), List.of(exact, bounded), "counts");
    return fields("exact", exact, "bounded", bounded);
  }

  private static Map<String, ?> exactTimeRead(World world) {
    DatabaseClient client = world.client();
    String key = "exact";
    Timestamp written = client.write(List.of(Items.upsert(key, 1)));
    Items.write(client, key, 2);
    try (ReadOnlyTransaction snapshot = client.readOnlyTransaction(TimestampBound.ofReadTimestamp(written))) {
      Object seen = Items.count(snapshot, key);
      boolean isTheOneAsked = snapshot.getReadTimestamp().equals(written);
      expect(1L, seen, "count");
      expect(true, isTheOneAsked, "the read timestamp is the one asked for");
      return fields("seen", seen, "isTheOneAsked", isTheOneAsked);
    }
  }

  private ReadChecks() {}
}
