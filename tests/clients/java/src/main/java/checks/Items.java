package checks;

import com.google.cloud.ByteArray;
import com.google.cloud.Timestamp;
import com.google.cloud.spanner.DatabaseClient;
import com.google.cloud.spanner.Key;
import com.google.cloud.spanner.Mutation;
import com.google.cloud.spanner.ReadContext;
import com.google.cloud.spanner.Struct;
import com.google.cloud.spanner.Value;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/** The rows that the checks write: each is a function of its number, so what is read back can be known beforehand. */
final class Items {
  static final String TABLE = "Items";
  static final int ROW_COUNT = 1000;
  static final List<String> COLUMNS =
      List.of("Key", "Count", "Ratio", "Live", "Body", "MadeAt", "Tags", "Extra");

  static String key(int number) {
    return String.format("item-%04d", number);
  }

  static List<Mutation> allRows() {
    return IntStream.range(0, ROW_COUNT).mapToObj(Items::insert).toList();
  }

  /** Row {@code number}; every tenth has NULLs. */
  private static Mutation insert(int number) {
    boolean sparse = number % 10 == 0;
    byte[] hash = Observe.sha256().digest(Integer.toString(number).getBytes());
    return Mutation.newInsertBuilder(TABLE)
        .set("Key").to(key(number))
        .set("Count").to(number)
        .set("Ratio").to(number / 8.0)
        .set("Live").to(number % 2 == 0)
        .set("Body").to(sparse ? null : ByteArray.copyFrom(hash))
        .set("MadeAt").to(Timestamp.parseTimestamp(String.format("2020-01-01T00:%02d:00.123456789Z", number % 60)))
        .set("Tags").toStringArray(sparse ? List.of() : Arrays.asList("tag-" + number % 7, null, "größe ✓"))
        .set("Extra").to(Value.json(sparse ? null : "{\"number\":" + number + ",\"nested\":{\"list\":[1,\"two\",null]}}"))
        .build();
  }

  static Mutation upsert(String key, long count) {
    return Mutation.newInsertOrUpdateBuilder(TABLE).set("Key").to(key).set("Count").to(count).build();
  }

  static void write(DatabaseClient client, String key, long count) {
    client.write(List.of(upsert(key, count)));
  }

  /** The value of Count for one key, or "no row". */
  static Object count(ReadContext reader, String key) {
    Struct row = reader.readRow(TABLE, Key.of(key), List.of("Count"));
    return row == null ? "no row" : (Object) row.getLong("Count");
  }

  private Items() {}
}
