package checks;

import static checks.Check.expect;
import static checks.Observe.fields;
import static checks.Observe.rows;

import com.google.cloud.ByteArray;
import com.google.cloud.Timestamp;
import com.google.cloud.spanner.Key;
import com.google.cloud.spanner.KeyRange;
import com.google.cloud.spanner.KeySet;
import com.google.cloud.spanner.Options;
import com.google.cloud.spanner.ReadContext;
import com.google.cloud.spanner.SpannerBatchUpdateException;
import com.google.cloud.spanner.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.LongStream;

/** Mutations, plain reads of what they wrote, and DML. */
final class WriteChecks {
  static final List<Check> ALL =
      List.of(
          new Check("insert_mutations", WriteChecks::insertMutations),
          new Check("read_by_key", WriteChecks::readByKey),
          new Check("read_by_index", WriteChecks::readByIndex),
          new Check("read_key_range_with_limit", WriteChecks::readKeyRangeWithLimit),
          new Check("dml_insert_update_delete_with_parameters", WriteChecks::dmlInsertUpdateDeleteWithParameters),
          new Check("batch_dml", WriteChecks::batchDml));

  private static Map<String, ?> insertMutations(World world) {
    world.client().write(Items.allRows());
    String sql = "SELECT " + String.join(", ", Items.COLUMNS) + " FROM Items ORDER BY Key";
    List<Map<String, Object>> rows = rows(world.client().singleUse().executeQuery(Statement.of(sql)));
    expect(Items.ROW_COUNT, rows.size(), "rows");
    return Observe.digest(rows);
  }

  private static Map<String, ?> readByKey(World world) {
    KeySet keys =
        KeySet.newBuilder()
            .addKey(Key.of(Items.key(7)))
            .addKey(Key.of(Items.key(10)))
            .addKey(Key.of("no such key"))
            .build();
    List<String> columns = new ArrayList<>(Items.COLUMNS);
    columns.add("Note");
    List<Map<String, Object>> rows = rows(world.client().singleUse().read(Items.TABLE, keys, columns));
    expect(2, rows.size(), "rows");
    return fields("rows", rows);
  }

  private static Map<String, ?> readByIndex(World world) {
    List<Map<String, Object>> rows =
        rows(
            world
                .client()
                .singleUse()
                .readUsingIndex(
                    Items.TABLE,
                    "ItemsByCount",
                    KeySet.range(KeyRange.closedClosed(Key.of(500), Key.of(504))),
                    List.of("Count", "Key")));
    expect(List.of(500L, 501L, 502L, 503L, 504L), counts(rows), "counts");
    return fields("rows", rows);
  }

  private static Map<String, ?> readKeyRangeWithLimit(World world) {
    KeySet range = KeySet.range(KeyRange.closedOpen(Key.of(Items.key(100)), Key.of(Items.key(200))));
    List<Map<String, Object>> rows =
        rows(world.client().singleUse().read(Items.TABLE, range, List.of("Key", "Count"), Options.limit(10)));
    expect(LongStream.range(100, 110).boxed().toList(), counts(rows), "counts");
    return fields("rows", rows);
  }

  private static List<Object> counts(List<Map<String, Object>> rows) {
    return rows.stream().map(row -> row.get("Count")).toList();
  }

  private static Map<String, ?> dmlInsertUpdateDeleteWithParameters(World world) {
    String key = "dml";
    Map<String, Object> seen =
        world
            .client()
            .readWriteTransaction()
            .run(
                transaction -> {
                  Statement insert =
                      Statement.newBuilder(
                              "INSERT INTO Items (Key, Count, Ratio, Live, Body, MadeAt, Tags, Note)"
                                  + " VALUES (@key, @count, @ratio, @live, @body, @madeAt, @tags, @note)")
                          .bind("key").to(key)
                          .bind("count").to(9007199254740993L)
                          .bind("ratio").to(0.1)
                          .bind("live").to(true)
                          .bind("body").to(ByteArray.copyFrom(new byte[] {0, (byte) 255, (byte) 128}))
                          .bind("madeAt").to(Timestamp.parseTimestamp("1999-12-31T23:59:59.999999999Z"))
                          .bind("tags").toStringArray(Arrays.asList("a", null, "b"))
                          .bind("note").to((String) null)
                          .build();
                  Statement update =
                      Statement.newBuilder("UPDATE Items SET Note = @note WHERE Key = @key OR Key = @other")
                          .bind("note").to("updated")
                          .bind("key").to(key)
                          .bind("other").to(Items.key(1))
                          .build();
                  Statement returning =
                      Statement.newBuilder("UPDATE Items SET Live = NOT Live WHERE Key = @key THEN RETURN Key, Live, Note")
                          .bind("key").to(key)
                          .build();
                  return fields(
                      "inserted", transaction.executeUpdate(insert),
                      "updated", transaction.executeUpdate(update),
                      "returned", rows(transaction.executeQuery(returning)));
                });
    Statement select = Statement.newBuilder("SELECT * FROM Items WHERE Key = @key").bind("key").to(key).build();
    seen.put("rows", rows(world.client().singleUse().executeQuery(select)));
    Statement delete = Statement.newBuilder("DELETE FROM Items WHERE Key = @key").bind("key").to(key).build();
    seen.put("deleted", world.client().readWriteTransaction().<Long>run(transaction -> transaction.executeUpdate(delete)));
    expect(
        List.of(1L, 2L, 1L), List.of(seen.get("inserted"), seen.get("updated"), seen.get("deleted")), "row counts");
    return seen;
  }

  private static Map<String, ?> batchDml(World world) {
    List<Long> whole =
        world
            .client()
            .readWriteTransaction()
            .run(
                transaction ->
                    boxed(transaction.batchUpdate(List.of(insert("batch-1"), insert("batch-2"), bump("batch-1")))));
    expect(List.of(1L, 1L, 1L), whole, "row counts");
    // The second statement fails: the first stays applied, the third is never tried. (It must not break a constraint:
    // the emulator then fails the commit as well.)
    Map<String, Object> failing =
        world
            .client()
            .readWriteTransaction()
            .run(
                transaction -> {
                  Statement missing = Statement.of("UPDATE NotThere SET Count = 1 WHERE true");
                  try {
                    transaction.batchUpdate(List.of(bump("batch-1"), missing, bump("batch-2")));
                  } catch (SpannerBatchUpdateException e) {
                    return fields("rowCounts", boxed(e.getUpdateCounts()), "error", Observe.errorFields(e));
                  }
                  throw new AssertionError("the statement on a missing table passed");
                });
    expect(List.of(1L), failing.get("rowCounts"), "row counts before the failure");
    ReadContext reader = world.client().readOnlyTransaction();
    try (reader) {
      List<Object> counts = List.of(Items.count(reader, "batch-1"), Items.count(reader, "batch-2"));
      expect(List.of(3L, 1L), counts, "counts");
      return fields("whole", whole, "failing", failing, "counts", counts);
    }
  }

  private static Statement insert(String key) {
    return Statement.newBuilder("INSERT INTO Items (Key, Count) VALUES (@key, 1)").bind("key").to(key).build();
  }

  private static Statement bump(String key) {
    return Statement.newBuilder("UPDATE Items SET Count = Count + 1 WHERE Key = @key").bind("key").to(key).build();
  }

  private static List<Long> boxed(long[] counts) {
    return LongStream.of(counts).boxed().toList();
  }

  private WriteChecks() {}
}
