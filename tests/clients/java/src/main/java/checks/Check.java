package checks;

import java.util.Map;

/** One behaviour of the endpoint, as the library shows it to an application. */
record Check(String name, Body body) {
  interface Body {
    /** Returns what the application saw, as JSON values; throws when it saw something wrong. */
    Map<String, ?> run(World world) throws Exception;
  }

  /** The library or the endpoint lacks the feature: the reason says which. */
  static final class NotAvailable extends Exception {
    private static final long serialVersionUID = 1L;
    private final transient Map<String, ?> detail;

    NotAvailable(String reason, Map<String, ?> detail) {
      super(reason);
      this.detail = detail;
    }

    Map<String, ?> detail() {
      return detail;
    }
  }

  static void expect(Object expected, Object actual, String what) {
    if (!expected.equals(actual)) {
      throw new AssertionError(what + ": expected " + expected + ", got " + actual);
    }
  }
}
