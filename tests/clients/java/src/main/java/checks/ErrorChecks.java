package checks;

import static checks.Check.expect;
import static checks.Observe.expectError;
import static checks.Observe.fields;
import static checks.Observe.rows;

import com.google.cloud.spanner.DatabaseAdminClient;
import com.google.cloud.spanner.DatabaseClient;
import com.google.cloud.spanner.DatabaseId;
import com.google.cloud.spanner.ErrorCode;
import com.google.cloud.spanner.KeySet;
import com.google.cloud.spanner.Mutation;
import com.google.cloud.spanner.Spanner;
import com.google.cloud.spanner.SpannerOptions;
import com.google.cloud.spanner.SpannerOptions.SpannerCallContextTimeoutConfigurator;
import com.google.cloud.spanner.Statement;
import com.google.cloud.spanner.spi.v1.SpannerInterceptorProvider;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.Context;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.ForwardingClientCallListener.SimpleForwardingClientCallListener;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicReference;

/** What the application sees when a call fails must be what the endpoint said. */
final class ErrorChecks {
  static final List<Check> ALL =
      List.of(
          new Check("error_not_found", ErrorChecks::notFound),
          new Check("error_already_exists", ErrorChecks::alreadyExists),
          new Check("error_invalid_sql", ErrorChecks::invalidSql),
          new Check("error_deadline", ErrorChecks::deadline),
          new Check("error_cancel", ErrorChecks::cancel));

  private static Map<String, ?> notFound(World world) throws Exception {
    DatabaseAdminClient admin = world.spanner().getDatabaseAdminClient();
    DatabaseClient missing =
        world.spanner().getDatabaseClient(DatabaseId.of(world.instanceId(), "not-there"));
    return fields(
        "table",
        expectError(
            ErrorCode.NOT_FOUND,
            () -> rows(world.client().singleUse().read("NotThere", KeySet.all(), List.of("Key")))),
        "database",
        expectError(ErrorCode.NOT_FOUND, () -> rows(missing.singleUse().executeQuery(Statement.of("SELECT 1")))),
        "metadata",
        expectError(
            ErrorCode.NOT_FOUND, () -> admin.getDatabase(world.instanceId().getInstance(), "not-there")));
  }

  private static Map<String, ?> alreadyExists(World world) throws Exception {
    Mutation duplicate = Mutation.newInsertBuilder(Items.TABLE).set("Key").to(Items.key(1)).build();
    String instance = world.instanceId().getInstance();
    String database = world.databaseId().getDatabase();
    return fields(
        "row",
        expectError(ErrorCode.ALREADY_EXISTS, () -> world.client().write(List.of(duplicate))),
        "database",
        expectError(
            ErrorCode.ALREADY_EXISTS,
            () -> world.spanner().getDatabaseAdminClient().createDatabase(instance, database, List.of()).get()));
  }

  private static Map<String, ?> invalidSql(World world) throws Exception {
    return fields(
        "syntax", expectQueryError(world, ErrorCode.INVALID_ARGUMENT, "SELECT FROM WHERE"),
        "table", expectQueryError(world, ErrorCode.INVALID_ARGUMENT, "SELECT * FROM NotThere"),
        "type", expectQueryError(world, ErrorCode.INVALID_ARGUMENT, "SELECT 1 + 'größe' FROM Items"),
        "evaluation", expectQueryError(world, ErrorCode.OUT_OF_RANGE, "SELECT 1 / (Count - Count) FROM Items"));
  }

  private static Map<String, ?> expectQueryError(World world, ErrorCode code, String sql) throws Exception {
    return expectError(code, () -> rows(world.client().singleUse().executeQuery(Statement.of(sql))));
  }

  private static Map<String, ?> deadline(World world) throws Exception {
    var oneMillisecond =
        SpannerCallContextTimeoutConfigurator.create().withExecuteQueryTimeoutDuration(Duration.ofMillis(1));
    Context context =
        Context.current().withValue(SpannerOptions.CALL_CONTEXT_CONFIGURATOR_KEY, oneMillisecond);
    Map<String, Object> error =
        context.call(
            () ->
                expectError(
                    ErrorCode.DEADLINE_EXCEEDED,
                    () -> rows(world.client().singleUse().executeQuery(BulkChecks.LARGE_QUERY))));
    // The message tells how long each part of the call took, so only the code can be compared.
    return fields("code", error.get("code"), "after", countAfterwards(world));
  }

  private static Map<String, ?> cancel(World world) throws Exception {
    // The library holds rows back until a resume token comes, and the emulator sends none: the first row would be out
    // only when the whole result is in. So the query is cancelled when the first message of its stream arrives.
    Context.CancellableContext context = Context.current().withCancellation();
    Spanner spanner =
        World.options(world.instanceId().getProject())
            .setInterceptorProvider(
                SpannerInterceptorProvider.createDefault().with(new OnFirstMessage(() -> context.cancel(null))))
            .build()
            .getService();
    try (spanner) {
      DatabaseClient client = spanner.getDatabaseClient(world.databaseId());
      Map<String, Object> error =
          context.call(
              () ->
                  expectError(
                      ErrorCode.CANCELLED, () -> rows(client.singleUse().executeQuery(BulkChecks.LARGE_QUERY))));
      Object sameClient = Items.count(client.singleUse(), Items.key(1));
      expect(1L, sameClient, "a read afterwards");
      return fields("code", error.get("code"), "message", error.get("message"), "after", sameClient);
    }
  }

  /** Runs an action when the first message of the first streamed query arrives. */
  private static final class OnFirstMessage implements ClientInterceptor {
    private final AtomicReference<Runnable> action;

    OnFirstMessage(Runnable action) {
      this.action = new AtomicReference<>(action);
    }

    @Override
    public <ReqT, RespT> ClientCall<ReqT, RespT> interceptCall(
        MethodDescriptor<ReqT, RespT> method, CallOptions options, Channel next) {
      ClientCall<ReqT, RespT> call = next.newCall(method, options);
      if (!method.getBareMethodName().equals("ExecuteStreamingSql")) {
        return call;
      }
      return new SimpleForwardingClientCall<>(call) {
        @Override
        public void start(Listener<RespT> listener, Metadata headers) {
          super.start(
              new SimpleForwardingClientCallListener<>(listener) {
                @Override
                public void onMessage(RespT message) {
                  Runnable once = action.getAndSet(null);
                  if (once != null) {
                    once.run();
                  }
                  super.onMessage(message);
                }
              },
              headers);
        }
      };
    }
  }

  private static Object countAfterwards(World world) {
    Object count = Items.count(world.client().singleUse(), Items.key(1));
    expect(1L, count, "a read afterwards");
    return count;
  }

  private ErrorChecks() {}
}
