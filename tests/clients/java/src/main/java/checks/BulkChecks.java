package checks;

import static checks.Check.expect;
import static checks.Observe.fields;

import com.google.api.gax.grpc.GrpcCallContext;
import com.google.api.gax.rpc.ApiCallContext;
import com.google.api.gax.rpc.ServerStream;
import com.google.api.gax.rpc.UnimplementedException;
import com.google.cloud.spanner.BatchReadOnlyTransaction;
import com.google.cloud.spanner.Key;
import com.google.cloud.spanner.KeyRange;
import com.google.cloud.spanner.KeySet;
import com.google.cloud.spanner.MutationGroup;
import com.google.cloud.spanner.Options;
import com.google.cloud.spanner.Partition;
import com.google.cloud.spanner.PartitionOptions;
import com.google.cloud.spanner.ResultSet;
import com.google.cloud.spanner.SpannerOptions;
import com.google.cloud.spanner.SpannerOptions.CallContextConfigurator;
import com.google.cloud.spanner.Statement;
import com.google.cloud.spanner.TimestampBound;
import com.google.spanner.v1.BatchWriteResponse;
import io.grpc.Context;
import io.grpc.MethodDescriptor;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.Function;

/** Much data, many partitions, many readers. */
final class BulkChecks {
  static final List<Check> ALL =
      List.of(
          new Check("large_streamed_result", BulkChecks::largeStreamedResult),
          new Check("partitioned_query", BulkChecks::partitionedQuery),
          new Check("partitioned_read", BulkChecks::partitionedRead),
          new Check("partitioned_dml", BulkChecks::partitionedDml),
          new Check("batch_write", BulkChecks::batchWrite),
          new Check("fifty_concurrent_readers", BulkChecks::fiftyConcurrentReaders),
          new Check("request_metadata_large", BulkChecks::requestMetadataLarge));

  private static final int LARGE_ROWS = 11_000;

  /** Each row carries 1 KiB, so the whole is over 10 MB. */
  static final Statement LARGE_QUERY =
      Statement.of(
          "SELECT i, REPEAT(TO_HEX(SHA512(CAST(i AS STRING))), 8) AS text FROM UNNEST(GENERATE_ARRAY(1, "
              + LARGE_ROWS
              + ")) AS i ORDER BY i");

  private static Map<String, ?> largeStreamedResult(World world) {
    MessageDigest seen = Observe.sha256();
    MessageDigest expected = Observe.sha256();
    int rows = 0;
    long bytes = 0;
    try (ResultSet result = world.client().singleUse().executeQuery(LARGE_QUERY)) {
      while (result.next()) {
        rows++;
        String text = result.getString("text");
        bytes += text.length();
        seen.update(utf8(result.getLong("i") + " " + text + "\n"));
        String hash = HexFormat.of().formatHex(Observe.messageDigest("SHA-512").digest(utf8(String.valueOf(rows))));
        expected.update(utf8(rows + " " + hash.repeat(8) + "\n"));
      }
    }
    String checksum = Observe.hex(seen);
    expect(LARGE_ROWS, rows, "rows");
    expect(Observe.hex(expected), checksum, "checksum");
    return fields("rows", rows, "bytes", bytes, "sha256", checksum);
  }

  private static Map<String, ?> partitionedQuery(World world) {
    Statement query = Statement.of("SELECT Key, Count FROM Items WHERE Count BETWEEN 100 AND 899");
    return readPartitions(
        world, transaction -> transaction.partitionQuery(PartitionOptions.getDefaultInstance(), query), 800);
  }

  private static Map<String, ?> partitionedRead(World world) {
    KeySet range = KeySet.range(KeyRange.closedOpen(Key.of(Items.key(0)), Key.of(Items.key(600))));
    return readPartitions(
        world,
        transaction ->
            transaction.partitionRead(
                PartitionOptions.getDefaultInstance(), Items.TABLE, range, List.of("Key", "Count")),
        600);
  }

  /** Reads every partition; the rows of all of them, sorted, are the result. */
  private static Map<String, ?> readPartitions(
      World world, Function<BatchReadOnlyTransaction, List<Partition>> partition, int expected) {
    try (BatchReadOnlyTransaction transaction =
        world.spanner().getBatchClient(world.databaseId()).batchReadOnlyTransaction(TimestampBound.strong())) {
      List<Partition> partitions = partition.apply(transaction);
      List<Map<String, Object>> rows = new ArrayList<>();
      for (Partition each : partitions) {
        rows.addAll(Observe.rows(transaction.execute(each)));
      }
      rows.sort(Comparator.comparing(row -> (String) row.get("Key")));
      expect(expected, rows.size(), "rows");
      Map<String, Object> detail = Observe.digest(rows);
      detail.put("partitions", partitions.size());
      return detail;
    }
  }

  private static Map<String, ?> partitionedDml(World world) {
    Statement update =
        Statement.newBuilder("UPDATE Items SET Note = @note WHERE Count BETWEEN 200 AND 699")
            .bind("note").to("partitioned")
            .build();
    long updated = world.client().executePartitionedUpdate(update);
    Statement query =
        Statement.newBuilder("SELECT COUNT(*) AS n FROM Items WHERE Note = @note").bind("note").to("partitioned").build();
    Object counted = Observe.rows(world.client().singleUse().executeQuery(query)).get(0).get("n");
    expect(500L, counted, "rows updated");
    return fields("updated", updated, "counted", counted);
  }

  private static Map<String, ?> batchWrite(World world) throws Check.NotAvailable {
    MutationGroup group = MutationGroup.of(Items.upsert("batch-write", 1));
    try {
      ServerStream<BatchWriteResponse> answers = world.client().batchWriteAtLeastOnce(List.of(group));
      List<Object> seen = new ArrayList<>();
      for (BatchWriteResponse answer : answers) {
        seen.add(fields("indexes", answer.getIndexesList(), "code", answer.getStatus().getCode()));
      }
      return fields("answers", seen);
    } catch (UnimplementedException e) { // the library lets the generated client's own exception through here
      throw new Check.NotAvailable("the endpoint answers UNIMPLEMENTED", Observe.errorFields(e));
    }
  }

  private static Map<String, ?> fiftyConcurrentReaders(World world) throws Exception {
    ExecutorService readers = Executors.newFixedThreadPool(50);
    try {
      List<Future<List<Object>>> results = new ArrayList<>();
      for (int i = 0; i < 50; i++) {
        int me = i;
        results.add(readers.submit(() -> readTwenty(world, me)));
      }
      List<Object> seen = new ArrayList<>();
      for (Future<List<Object>> result : results) {
        seen.addAll(result.get());
      }
      return Observe.digest(seen);
    } finally {
      readers.shutdownNow();
    }
  }

  private static List<Object> readTwenty(World world, int me) {
    List<Object> seen = new ArrayList<>();
    for (int number = me * 20; number < me * 20 + 20; number++) {
      Object count = Items.count(world.client().singleUse(), Items.key(number));
      expect((long) number, count, "count of " + Items.key(number));
      seen.add(count);
    }
    return seen;
  }

  private static Map<String, ?> requestMetadataLarge(World world) throws Exception {
    String text = "Straße ".repeat(64 * 1024); // 512 KiB in UTF-8
    Statement query =
        Statement.newBuilder(
                "SELECT BYTE_LENGTH(@text) AS bytes, TO_HEX(SHA256(@text)) AS sha256, @text AS text")
            .bind("text").to(text)
            .build();
    Context padded = Context.current().withValue(SpannerOptions.CALL_CONTEXT_CONFIGURATOR_KEY, new LargeHeader());
    Map<String, Object> row =
        padded.call(
            () ->
                Observe.rows(
                        world.client().singleUse().executeQuery(query, Options.tag("app=checks,action=large")))
                    .get(0));
    expect(HexFormat.of().formatHex(Observe.sha256().digest(utf8(text))), row.get("sha256"), "checksum");
    expect(text, row.remove("text"), "text");
    return row;
  }

  private static final class LargeHeader implements CallContextConfigurator {
    @Override
    public <ReqT, RespT> ApiCallContext configure(
        ApiCallContext context, ReqT request, MethodDescriptor<ReqT, RespT> method) {
      return GrpcCallContext.createDefault()
          .withExtraHeaders(Map.of("x-checks-padding", List.of("p".repeat(4 * 1024))));
    }
  }

  private static byte[] utf8(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  private BulkChecks() {}
}
