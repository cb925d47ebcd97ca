"""google-cloud-spanner against SPANNER_EMULATOR_HOST; sessions are multiplexed or pooled as the environment says."""

import base64
import concurrent.futures
import datetime
import hashlib
import os
import sys
import threading
import time

from google.api_core import exceptions
from google.cloud import spanner
from google.cloud.spanner_v1 import JsonObject, param_types
from google.rpc import code_pb2

import data
from data import DOCUMENTS, DOCUMENT_LENGTH, READERS, READS_EACH, ROWS, document
from harness import Harness, NotAvailable, checksum, expect, random_suffix

COLUMNS = ["Id", "Region", "Balance", "Score", "Active", "Token", "CreatedAt", "Tags", "Profile"]
SCHEMA = [
    """CREATE TABLE Accounts (
        Id STRING(36) NOT NULL,
        Region STRING(16),
        Balance INT64,
        Score FLOAT64,
        Active BOOL,
        Token BYTES(64),
        CreatedAt TIMESTAMP,
        Tags ARRAY<STRING(MAX)>,
        Profile JSON,
    ) PRIMARY KEY (Id)""",
    "CREATE INDEX AccountsByRegion ON Accounts(Region, Balance)",
    "CREATE TABLE Documents (Id INT64 NOT NULL, Body STRING(MAX)) PRIMARY KEY (Id)",
]
# 30 MB: more than any window holds, so that the query still streams when it is cut. The emulator computes all rows
# before it sends the first.
LONG_QUERY = "SELECT number, REPEAT('x', 2000) FROM UNNEST(GENERATE_ARRAY(1, 15000)) number"


def account(number):
    row = data.account(number)
    row["Token"] = base64.b64encode(row["Token"])  # the library leaves base64 to the application
    row["Profile"] = JsonObject(row["Profile"])
    return [row[column] for column in COLUMNS]


def plain(value):
    """A column's value as JSON."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, datetime.datetime):
        return data.timestamp(value)
    if isinstance(value, JsonObject):
        return dict(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def plain_rows(rows):
    return [[plain(value) for value in row] for row in rows]


class SpannerChecks:
    def __init__(self, harness):
        self.harness = harness
        self.client = spanner.Client(project=os.environ.get("SPANNER_PROJECT", "test-project"))
        suffix = random_suffix()
        self.instance = self.client.instance(
            f"python-{suffix}",
            configuration_name=f"{self.client.project_name}/instanceConfigs/emulator-config",
            display_name="client checks",
            node_count=1,
        )
        self.database = self.instance.database(f"checks-{suffix}", ddl_statements=SCHEMA)
        # A second client of the same database with sessions of its own. The emulator gives one session one transaction
        # at a time, so what must overlap needs it when sessions are multiplexed.
        self.neighbour = self.instance.database(self.database.database_id)
        harness.hide(self.instance.instance_id, "INSTANCE")
        harness.hide(self.database.database_id, "DATABASE")

    def all(self):
        harness = self.harness
        harness.check(self.create_instance_and_database, needed=True)
        for check in [
            self.insert_mutations,
            self.read_by_key,
            self.read_by_index,
            self.read_key_range_with_limit,
            self.dml_insert_update_delete_with_parameters,
            self.batch_dml,
            self.read_write_transaction,
            self.transaction_aborts_and_retries,
            self.rollback_leaves_no_trace,
            self.multi_use_snapshot,
            self.stale_read,
            self.exact_time_read,
            self.large_streamed_result,
            self.partitioned_query,
            self.partitioned_read,
            self.partitioned_dml,
            self.batch_write,
            self.fifty_concurrent_readers,
            self.request_metadata_large,
            self.error_not_found,
            self.error_already_exists,
            self.error_invalid_sql,
            self.error_deadline,
            self.error_cancel,
        ]:
            harness.check(check)
        harness.check(self.drop_database, always=True)
        return harness.finish()

    # --- what the checks share ---

    def query(self, sql, database=None, snapshot=None, **options):
        """All rows of a query at a strong snapshot, or at one with the given options."""
        with (database or self.database).snapshot(**(snapshot or {})) as view:
            return [list(row) for row in view.execute_sql(sql, **options)]

    def one(self, sql, **options):
        [[value]] = self.query(sql, **options)
        return value

    def insert(self, table, columns, rows, database=None):
        """Inserts in one commit and returns its time."""
        with (database or self.database).batch() as batch:
            batch.insert(table, columns, rows)
        return batch.committed

    def balance(self, key, **snapshot):
        return self.one(f"SELECT Balance FROM Accounts WHERE Id = '{key}'", snapshot=snapshot)

    def add_account(self, key, balance):
        return self.insert("Accounts", ["Id", "Balance"], [[key, balance]])

    def set_balance(self, key, balance, database=None):
        with (database or self.database).batch() as batch:
            batch.update("Accounts", ["Id", "Balance"], [[key, balance]])
        return batch.committed

    def delete_account(self, *keys):
        with self.database.batch() as batch:
            batch.delete("Accounts", spanner.KeySet(keys=[[key] for key in keys]))

    def failure(self, call, *wanted):
        """What the application sees of the error that `call` must raise, one of the classes `wanted`."""
        try:
            call()
        except wanted as error:
            return self.describe(error)
        raise AssertionError(f"no error, expected {' or '.join(kind.__name__ for kind in wanted)}")

    def describe(self, error):
        return {
            "class": type(error).__name__,
            "code": error.grpc_status_code.name,
            "message": self.harness.scrub(error.message),
            "details": [
                [detail.DESCRIPTOR.full_name, self.harness.scrub(str(detail))] for detail in error.details or []
            ],
        }

    # --- the checks ---

    def create_instance_and_database(self):
        self.instance.create().result(30)
        self.database.create().result(30)
        self.database.update_ddl(["ALTER TABLE Accounts ADD COLUMN Note STRING(MAX)"]).result(30)
        self.database.reload()
        self.instance.reload()
        columns = self.query(
            "SELECT column_name, spanner_type FROM information_schema.columns"
            " WHERE table_name = 'Accounts' ORDER BY ordinal_position"
        )
        expect("columns", [name for name, _ in columns], [*COLUMNS, "Note"])
        databases = [item.name.split("/")[-1] for item in self.instance.list_databases()]
        return {
            "columns": columns,
            "ddl": self.database.ddl_statements and list(self.database.ddl_statements),
            "display_name": self.instance.display_name,
            "nodes": self.instance.node_count,
            "databases": list(map(self.harness.scrub, databases)),
        }

    def insert_mutations(self):
        committed = self.insert("Accounts", COLUMNS, [account(number) for number in range(ROWS)])
        expect("commit time is set", isinstance(committed, datetime.datetime), True)
        count = self.one("SELECT COUNT(*) FROM Accounts")
        expect("rows", count, ROWS)
        return {"rows": count}

    def read_by_key(self):
        keys = spanner.KeySet(keys=[["account-00042"], ["account-00007"], ["account-99999"]])
        with self.database.snapshot() as view:
            rows = plain_rows(view.read("Accounts", COLUMNS, keys))
        expect("rows", sorted(rows), sorted(plain_rows([account(42), account(7)])))
        return {"rows": rows}

    def read_by_index(self):
        keys = spanner.KeySet(ranges=[spanner.KeyRange(start_closed=["west"], end_closed=["west"])])
        with self.database.snapshot() as view:
            columns = ["Region", "Balance", "Id"]
            rows = [list(row) for row in view.read("Accounts", columns, keys, index="AccountsByRegion")]
        expect("rows", rows, data.by_index("west"))
        return {"rows": len(rows), "sha256": checksum(rows)}

    def read_key_range_with_limit(self):
        keys = spanner.KeySet(ranges=[spanner.KeyRange(start_open=["account-00100"], end_closed=["account-00900"])])
        with self.database.snapshot() as view:
            rows = plain_rows(view.read("Accounts", COLUMNS, keys, limit=300))
        expect("rows", rows, plain_rows(account(number) for number in range(101, 401)))
        return {"rows": len(rows), "sha256": checksum(rows)}

    def dml_insert_update_delete_with_parameters(self):
        key = {"id": "dml-1"}
        key_type = {"id": param_types.STRING}

        def work(transaction):
            inserted = transaction.execute_update(
                "INSERT INTO Accounts (Id, Balance, Score, Active, Token, CreatedAt, Tags, Profile)"
                " VALUES (@id, @balance, @score, @active, @token, @at, @tags, @profile)",
                params={
                    **key,
                    "balance": -(2**62),
                    "score": 0.1,
                    "active": None,
                    "token": base64.b64encode(b"\x00\xff"),
                    "at": datetime.datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=datetime.timezone.utc),
                    "tags": ["a", None],
                    "profile": JsonObject({"k": [1.5]}),
                },
                param_types={
                    **key_type,
                    "balance": param_types.INT64,
                    "score": param_types.FLOAT64,
                    "active": param_types.BOOL,
                    "token": param_types.BYTES,
                    "at": param_types.TIMESTAMP,
                    "tags": param_types.Array(param_types.STRING),
                    "profile": param_types.JSON,
                },
            )
            [row] = transaction.execute_sql("SELECT * FROM Accounts WHERE Id = @id", params=key, param_types=key_type)
            updated = transaction.execute_update(
                "UPDATE Accounts SET Balance = Balance + @step WHERE Id = @id",
                params={**key, "step": 5},
                param_types={**key_type, "step": param_types.INT64},
            )
            [[returned]] = transaction.execute_sql(
                "DELETE FROM Accounts WHERE Id = @id THEN RETURN Balance", params=key, param_types=key_type
            )
            row = [plain(value) for value in row]
            return {"inserted": inserted, "row": row, "updated": updated, "returned": returned}

        seen = self.database.run_in_transaction(work)
        expect("inserted", seen["inserted"], 1)
        expect("updated", seen["updated"], 1)
        expect("balance returned by the delete", seen["returned"], -(2**62) + 5)
        expect("rows left", self.query("SELECT Id FROM Accounts WHERE Id = 'dml-1'"), [])
        return seen

    def batch_dml(self):
        insert = "INSERT INTO Accounts (Id, Balance) VALUES ('{}', {})"

        def run(statements):
            def work(transaction):
                status, counts = transaction.batch_update(statements)
                return {
                    "code": code_pb2.Code.Name(status.code),
                    "message": self.harness.scrub(status.message),
                    "details": [detail.type_url for detail in status.details],
                    "counts": list(counts),
                }

            return self.database.run_in_transaction(work)

        good = run([insert.format("batch-1", 1), insert.format("batch-2", 2),
                    "UPDATE Accounts SET Balance = Balance * 10 WHERE STARTS_WITH(Id, 'batch-')"])
        # A duplicate key would do on Spanner; on the emulator it spoils the whole transaction.
        invalid = "UPDATE Accounts SET Missing = 1 WHERE TRUE"
        bad = run([insert.format("batch-3", 3), invalid, insert.format("batch-4", 4)])
        left = self.query("SELECT Id, Balance FROM Accounts WHERE STARTS_WITH(Id, 'batch-') ORDER BY Id")
        expect("counts of the good batch", good["counts"], [1, 1, 2])
        expect("counts of the bad batch", bad["counts"], [1])
        expect("code of the bad batch", bad["code"], "INVALID_ARGUMENT")
        expect("rows", left, [["batch-1", 10], ["batch-2", 20], ["batch-3", 3]])
        self.delete_account("batch-1", "batch-2", "batch-3")
        return {"good": good, "bad": bad, "rows": left}

    def read_write_transaction(self):
        self.add_account("from", 100)
        self.add_account("to", 0)

        def transfer(transaction):
            keys = spanner.KeySet(keys=[["from"], ["to"]])
            balances = dict(transaction.read("Accounts", ["Id", "Balance"], keys))
            transaction.update("Accounts", ["Id", "Balance"], [["from", balances["from"] - 30]])
            count = transaction.execute_update("UPDATE Accounts SET Balance = Balance + 30 WHERE Id = 'to'")
            return [balances["from"], balances["to"], count]

        seen = self.database.run_in_transaction(transfer)
        after = [self.balance("from"), self.balance("to")]
        expect("read in the transaction", seen, [100, 0, 1])
        expect("balances", after, [70, 30])
        self.delete_account("from", "to")
        return {"seen": seen, "after": after}

    def transaction_aborts_and_retries(self):
        self.add_account("contended", 0)
        attempts = []
        both_have_begun = threading.Barrier(2)

        def increment(transaction):
            first = threading.get_ident() not in attempts
            attempts.append(threading.get_ident())
            try:
                [[balance]] = transaction.read("Accounts", ["Balance"], spanner.KeySet(keys=[["contended"]]))
            finally:
                if first:
                    both_have_begun.wait(20)
            transaction.update("Accounts", ["Id", "Balance"], [["contended", balance + 1]])

        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            # The emulator sends no RetryInfo, for which the library would wait two seconds and more.
            runs = [threads.submit(database.run_in_transaction, increment, default_retry_delay=0.05, timeout_secs=30)
                    for database in (self.database, self.neighbour)]
            for run in runs:
                run.result(60)
        expect("increments", self.balance("contended"), 2)
        expect("an attempt was aborted and retried", len(attempts) > 2, True)
        self.delete_account("contended")
        return {"transactions": 2, "increments": 2, "retried": True}

    def rollback_leaves_no_trace(self):
        class Regret(Exception):
            pass

        def work(transaction):
            count = transaction.execute_update("INSERT INTO Accounts (Id) VALUES ('rolled-back')")
            expect("inserted", count, 1)
            raise Regret()

        try:
            self.database.run_in_transaction(work)
            raise AssertionError("the transaction's exception was lost")
        except Regret:
            pass
        rows = self.query("SELECT Id FROM Accounts WHERE Id = 'rolled-back'")
        expect("rows", rows, [])
        return {"rows": rows}

    def multi_use_snapshot(self):
        self.add_account("observed", 1)
        key = spanner.KeySet(keys=[["observed"]])
        with self.database.snapshot(multi_use=True) as view:
            before = [list(row) for row in view.read("Accounts", ["Balance"], key)]
            self.set_balance("observed", 2, self.neighbour)
            after = [list(row) for row in view.execute_sql("SELECT Balance FROM Accounts WHERE Id = 'observed'")]
        now = self.balance("observed")
        expect("both reads and a new one", [before, after, now], [[[1]], [[1]], 2])
        self.delete_account("observed")
        return {"before": before, "after": after, "now": now}

    def stale_read(self):
        self.add_account("stale", 1)
        time.sleep(1.2)
        began = time.monotonic()
        updated = self.set_balance("stale", 2)
        # Half way between the two commits.
        staleness = datetime.timedelta(seconds=time.monotonic() - began + 0.6)
        exact = self.balance("stale", exact_staleness=staleness)
        expect("balance before the update", exact, 1)
        at_least = self.balance("stale", min_read_timestamp=updated)
        expect("balance not before the update", at_least, 2)
        # The server may choose any time within the bound, so either value is right; that there is one is what counts.
        bounded = self.balance("stale", max_staleness=staleness)
        expect("balance within the bound is one that was written", bounded in (1, 2), True)
        self.delete_account("stale")
        return {"exact": exact, "min_read_timestamp": at_least, "max_staleness": "1 or 2"}

    def exact_time_read(self):
        first = self.add_account("timed", 1)
        second = self.set_balance("timed", 2)
        seen = [self.balance("timed", read_timestamp=first), self.balance("timed", read_timestamp=second)]
        just_before = first - datetime.timedelta(microseconds=1)
        missing = self.query("SELECT Id FROM Accounts WHERE Id = 'timed'", snapshot={"read_timestamp": just_before})
        expect("balances at the two commits", seen, [1, 2])
        expect("rows before the first", missing, [])
        self.delete_account("timed")
        return {"seen": seen, "before": missing}

    def large_streamed_result(self):
        for start in range(0, DOCUMENTS, 8):
            numbers = range(start, start + 8)
            self.insert("Documents", ["Id", "Body"], [[number, document(number)] for number in numbers])
        digest, rows, size = hashlib.sha256(), 0, 0
        with self.database.snapshot() as view:
            for number, body in view.execute_sql("SELECT Id, Body FROM Documents ORDER BY Id"):
                expect(f"document {number}", body == document(number), True)
                digest.update(body.encode())
                rows, size = rows + 1, size + len(body)
        expect("rows", rows, DOCUMENTS)
        expect("size", size, DOCUMENTS * DOCUMENT_LENGTH)
        return {"rows": rows, "bytes": size, "sha256": digest.hexdigest()}

    def partitioned_query(self):
        with self.database.batch_snapshot() as view:
            batches = list(view.generate_query_batches("SELECT Id, Balance FROM Accounts", max_partitions=4))
            rows = sorted(list(row) for batch in batches for row in view.process_query_batch(batch))
        return self.all_accounts(batches, rows)

    def partitioned_read(self):
        with self.database.batch_snapshot() as view:
            batches = list(view.generate_read_batches("Accounts", ["Id", "Balance"], spanner.KeySet(all_=True)))
            rows = sorted(list(row) for batch in batches for row in view.process_read_batch(batch))
        return self.all_accounts(batches, rows)

    def all_accounts(self, batches, rows):
        expect("there are partitions", len(batches) > 0, True)
        expect("rows", rows, data.balances(range(ROWS)))
        return {"rows": len(rows), "sha256": checksum(rows)}

    def partitioned_dml(self):
        count = self.database.execute_partitioned_dml(
            "UPDATE Accounts SET Note = @note WHERE Region = 'north'",
            params={"note": "north"},
            param_types={"note": param_types.STRING},
        )
        noted = self.one("SELECT COUNT(*) FROM Accounts WHERE Note = 'north'")
        expect("rows", [count, noted], [ROWS // 4, ROWS // 4])
        return {"lower_bound": count, "noted": noted}

    def batch_write(self):
        try:
            with self.database.mutation_groups() as groups:
                for number in range(3):
                    groups.group().insert("Accounts", ["Id"], [[f"group-{number}"]])
                answers = [(list(answer.indexes), answer.status.code) for answer in groups.batch_write()]
        except exceptions.MethodNotImplemented as error:
            raise NotAvailable("the emulator answers UNIMPLEMENTED", self.describe(error)) from None
        applied = sorted(index for indexes, code in answers for index in indexes if code == code_pb2.OK)
        expect("groups applied", applied, [0, 1, 2])
        self.delete_account("group-0", "group-1", "group-2")
        return {"applied": applied}

    def fifty_concurrent_readers(self):
        start = threading.Barrier(READERS)

        def reader(number):
            start.wait(30)
            rows = []
            for turn in range(READS_EACH):
                key = f"account-{(number * READS_EACH + turn) % ROWS:05}"
                if turn % 2:
                    rows += self.query("SELECT Id, Balance FROM Accounts WHERE Id = @id", params={"id": key},
                                       param_types={"id": param_types.STRING})
                else:
                    with self.database.snapshot() as view:
                        rows += map(list, view.read("Accounts", ["Id", "Balance"], spanner.KeySet(keys=[[key]])))
            return rows

        with concurrent.futures.ThreadPoolExecutor(READERS) as threads:
            rows = sorted(row for run in threads.map(reader, range(READERS)) for row in run)
        expect("rows", rows, data.balances(range(READERS * READS_EACH)))
        return {"readers": READERS, "rows": len(rows), "sha256": checksum(rows)}

    def request_metadata_large(self):
        text = document(1)[:500 * 1024]
        [[length, digest]] = self.query(
            "SELECT LENGTH(@text), TO_HEX(SHA256(@text))",
            params={"text": text},
            param_types={"text": param_types.STRING},
            request_options={"request_tag": "client-checks,case=large"},
        )
        expect("length", length, len(text))
        expect("digest", digest, hashlib.sha256(text.encode()).hexdigest())
        return {"length": length, "sha256": digest}

    def error_not_found(self):
        def read_missing_table():
            with self.database.snapshot() as view:
                list(view.read("Missing", ["Id"], spanner.KeySet(all_=True)))

        missing_database = self.instance.database("missing-database")
        return {
            "table": self.failure(read_missing_table, exceptions.NotFound),
            "row": self.failure(lambda: self.set_balance("no-such-account", 1), exceptions.NotFound),
            "database": self.failure(lambda: self.query("SELECT 1", missing_database), exceptions.NotFound),
            "database_admin": self.failure(missing_database.reload, exceptions.NotFound),
        }

    def error_already_exists(self):
        return {
            "row": self.failure(lambda: self.add_account("account-00001", 1), exceptions.AlreadyExists),
            "database": self.failure(lambda: self.database.create().result(30), exceptions.AlreadyExists),
        }

    def error_invalid_sql(self):
        return {
            "syntax": self.failure(lambda: self.query("SELEKT 1"), exceptions.InvalidArgument),
            "table": self.failure(lambda: self.query("SELECT * FROM Missing"), exceptions.InvalidArgument),
            "parameter": self.failure(lambda: self.query("SELECT @unbound"), exceptions.InvalidArgument),
            "division": self.failure(lambda: self.query("SELECT 1 / 0"), exceptions.OutOfRange),
        }

    def error_deadline(self):
        seen = self.failure(lambda: self.query(LONG_QUERY, timeout=0.001, retry=None), exceptions.DeadlineExceeded)
        # The message is the client's or the server's, whoever's timer ends first.
        expect("the client works afterwards", self.one("SELECT 1"), 1)
        return {"class": seen["class"], "code": seen["code"]}

    def error_cancel(self):
        # Result sets have no cancel; the library's generated client, which is public, has.
        session = self.database.session()
        session.create()
        multiplexed = os.environ.get("GOOGLE_CLOUD_SPANNER_MULTIPLEXED_SESSIONS") == "true"
        expect("the session is multiplexed", session.is_multiplexed, multiplexed)
        stream = self.database.spanner_api.execute_streaming_sql(
            request={"session": session.name, "sql": LONG_QUERY},
            metadata=[("google-cloud-resource-prefix", self.database.name)],
        )
        expect("rows arrive before the cancel", len(next(stream).values) > 0, True)
        stream.cancel()
        seen = self.failure(lambda: list(stream), exceptions.Cancelled)
        session.delete()
        expect("the client works afterwards", self.one("SELECT COUNT(*) FROM Accounts"), ROWS)
        return {"multiplexed": multiplexed, **seen}

    def drop_database(self):
        self.database.drop()
        gone = self.failure(self.database.reload, exceptions.NotFound)
        self.instance.delete()
        expect("instance exists", self.instance.exists(), False)
        return {"gone": gone}


if __name__ == "__main__":
    sys.exit(SpannerChecks(Harness(sys.argv)).all())
