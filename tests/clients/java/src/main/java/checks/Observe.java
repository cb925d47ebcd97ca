package checks;

import com.google.api.gax.rpc.ApiException;
import com.google.cloud.spanner.ErrorCode;
import com.google.cloud.spanner.ResultSet;
import com.google.cloud.spanner.SpannerException;
import com.google.cloud.spanner.Struct;
import com.google.cloud.spanner.Type;
import com.google.cloud.spanner.Value;
import com.google.rpc.Status;
import io.grpc.protobuf.StatusProto;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;

/** Turns what the library handed out into JSON values that are the same in every run. */
final class Observe {
  /** All rows of the result, which is closed. Each is a map from column to value. */
  static List<Map<String, Object>> rows(ResultSet result) {
    try (result) {
      List<Map<String, Object>> rows = new ArrayList<>();
      while (result.next()) {
        rows.add(row(result.getCurrentRowAsStruct()));
      }
      return rows;
    }
  }

  static Map<String, Object> row(Struct struct) {
    Map<String, Object> row = new LinkedHashMap<>();
    for (Type.StructField field : struct.getType().getStructFields()) {
      row.put(field.getName(), plain(struct.getValue(field.getName())));
    }
    return row;
  }

  private static Object plain(Value value) {
    if (value.isNull()) {
      return null;
    }
    return switch (value.getType().getCode()) {
      case BOOL -> value.getBool();
      case INT64 -> value.getInt64();
      case FLOAT64 -> value.getFloat64();
      case STRING -> value.getString();
      case JSON -> value.getJson();
      case BYTES -> value.getBytes().toBase64();
      case TIMESTAMP -> value.getTimestamp().toString();
      case ARRAY -> value.getStringArray();
      default -> throw new IllegalArgumentException("no check reads a " + value.getType());
    };
  }

  /** How many rows, and the SHA-256 of them in their order. */
  static Map<String, Object> digest(List<?> rows) {
    MessageDigest digest = sha256();
    rows.forEach(row -> digest.update((row + "\n").getBytes(StandardCharsets.UTF_8)));
    return fields("rows", rows.size(), "sha256", hex(digest));
  }

  static MessageDigest sha256() {
    return messageDigest("SHA-256");
  }

  static MessageDigest messageDigest(String algorithm) {
    try {
      return MessageDigest.getInstance(algorithm);
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }

  static String hex(MessageDigest digest) {
    return HexFormat.of().formatHex(digest.digest());
  }

  /** Code name, message and status-detail types of an error that the library raised. */
  static Map<String, Object> errorFields(Throwable error) {
    return fields("code", codeName(error), "message", error.getMessage(), "details", detailTypes(error));
  }

  static String codeName(Throwable error) {
    if (error instanceof SpannerException e) {
      return e.getErrorCode().name();
    }
    if (error instanceof ApiException e) {
      return e.getStatusCode().getCode().name();
    }
    return error.getClass().getSimpleName();
  }

  private static List<String> detailTypes(Throwable error) {
    Status status = StatusProto.fromThrowable(error);
    return status == null ? List.of() : status.getDetailsList().stream().map(any -> any.getTypeUrl()).toList();
  }

  /** The fields of the error that {@code call} must end with, which must carry {@code expected}. */
  static Map<String, Object> expectError(ErrorCode expected, Callable<?> call) throws Exception {
    try {
      call.call();
    } catch (SpannerException e) {
      return ifExpected(expected, e);
    } catch (ExecutionException e) {
      // What the futures of the admin clients wrap.
      if (e.getCause() instanceof SpannerException cause) {
        return ifExpected(expected, cause);
      }
      throw e;
    }
    throw new AssertionError("expected " + expected + ", but the call succeeded");
  }

  private static Map<String, Object> ifExpected(ErrorCode expected, SpannerException error) {
    if (error.getErrorCode() != expected) {
      throw error;
    }
    return errorFields(error);
  }

  /** An ordered JSON object from names and values in turn. */
  static Map<String, Object> fields(Object... namesAndValues) {
    Map<String, Object> fields = new LinkedHashMap<>();
    for (int i = 0; i < namesAndValues.length; i += 2) {
      fields.put((String) namesAndValues[i], namesAndValues[i + 1]);
    }
    return fields;
  }

  private Observe() {}
}
