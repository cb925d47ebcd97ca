"""sqlalchemy-spanner against SPANNER_EMULATOR_HOST: the checks that its ORM and Core can express.

Left out, since the dialect has no way to say it: BatchWrite, partitioned reads, deadlines, cancellation.
"""

import base64
import concurrent.futures
import datetime
import hashlib
import os
import sys
import threading
import time
import unittest.mock

import sqlalchemy
from google.api_core import exceptions
from google.cloud import spanner
from google.cloud.spanner_dbapi.parsed_statement import AutocommitDmlMode
from google.cloud.spanner_dbapi.transaction_helper import TransactionRetryHelper
from sqlalchemy import Index, delete, func, insert, select, text, update
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

import data
from data import DOCUMENTS, DOCUMENT_LENGTH, READERS, READS_EACH, ROWS, document
from harness import Harness, checksum, expect, random_suffix


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "Accounts"
    id = mapped_column("Id", sqlalchemy.String(36), primary_key=True)
    region = mapped_column("Region", sqlalchemy.String(16))
    balance = mapped_column("Balance", sqlalchemy.BigInteger)
    score = mapped_column("Score", sqlalchemy.Float)
    active = mapped_column("Active", sqlalchemy.Boolean)
    token = mapped_column("Token", sqlalchemy.LargeBinary(64))
    created_at = mapped_column("CreatedAt", sqlalchemy.TIMESTAMP)
    tags = mapped_column("Tags", sqlalchemy.ARRAY(sqlalchemy.String))
    profile = mapped_column("Profile", sqlalchemy.JSON)

    def values(self):
        """The columns as JSON."""
        return [self.id, self.region, self.balance, self.score, self.active, self.token.decode(),
                data.timestamp(self.created_at), list(self.tags), dict(self.profile)]


Index("AccountsByRegion", Account.region, Account.balance)


class Document(Base):
    __tablename__ = "Documents"
    id = mapped_column("Id", sqlalchemy.BigInteger, primary_key=True, autoincrement=False)
    body = mapped_column("Body", sqlalchemy.Text)


def account(number):
    row = data.account(number)
    return Account(**{attribute.key: row[attribute.columns[0].name] for attribute in Account.__mapper__.column_attrs})


def stored(number):
    """What `values` must give for row `number` when it is read. The dialect encodes bytes but does not decode them."""
    row = account(number)
    row.token = base64.b64encode(row.token)
    return row.values()


def rows_of(result):
    return [list(row) for row in result]


class SqlalchemyChecks:
    def __init__(self, harness):
        self.harness = harness
        self.client = spanner.Client(project=os.environ.get("SPANNER_PROJECT", "test-project"))
        suffix = random_suffix()
        self.instance = self.client.instance(
            f"sqlalchemy-{suffix}",
            configuration_name=f"{self.client.project_name}/instanceConfigs/emulator-config",
            display_name="client checks",
            node_count=1,
        )
        self.database = self.instance.database(f"checks-{suffix}")
        harness.hide(self.instance.instance_id, "INSTANCE")
        harness.hide(self.database.database_id, "DATABASE")
        self.engine = sqlalchemy.create_engine(f"spanner+spanner:///{self.database.name}", pool_size=READERS)
        self.autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")

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
            self.partitioned_dml,
            self.fifty_concurrent_readers,
            self.request_metadata_large,
            self.error_not_found,
            self.error_already_exists,
            self.error_invalid_sql,
        ]:
            harness.check(check)
        harness.check(self.drop_database, always=True)
        return harness.finish()

    # --- what the checks share ---

    def add(self, *objects):
        with Session(self.engine) as session, session.begin():
            session.add_all(objects)

    def remove(self, *keys):
        with self.engine.begin() as connection:
            connection.execute(delete(Account).where(Account.id.in_(keys)))

    def set_balance(self, key, balance):
        with self.engine.begin() as connection:
            return connection.execute(update(Account).where(Account.id == key).values(balance=balance)).rowcount

    def balance(self, key, **options):
        """Read in a read-only transaction, at the staleness that the execution options say."""
        with self.engine.connect().execution_options(read_only=True, **options) as connection:
            return connection.execute(select(Account.balance).where(Account.id == key)).scalar()

    def failure(self, call, *wanted):
        """What the application sees of the error that `call` must raise, one of the classes `wanted`."""
        try:
            call()
        except wanted as error:
            cause = error
            while not isinstance(cause, exceptions.GoogleAPICallError) and cause is not None:
                cause = getattr(cause, "orig", None) or cause.__cause__
            return {
                "class": type(error).__name__,
                "code": cause and cause.grpc_status_code.name,
                "message": self.harness.scrub(cause.message if cause else str(error)),
                "details": [detail.DESCRIPTOR.full_name for detail in cause.details or []] if cause else [],
            }
        raise AssertionError(f"no error, expected {' or '.join(kind.__name__ for kind in wanted)}")

    # --- the checks ---

    def create_instance_and_database(self):
        self.instance.create().result(30)
        self.database.create().result(30)
        Base.metadata.create_all(self.engine)
        with self.autocommit.connect() as connection:
            connection.execute(text("ALTER TABLE Accounts ADD COLUMN Note STRING(MAX)"))
        inspector = sqlalchemy.inspect(self.engine)
        columns = [[column["name"], str(column["type"])] for column in inspector.get_columns("Accounts")]
        expect("columns", [name for name, _ in columns], [*Account.__table__.columns.keys(), "Note"])
        indexes = [[index["name"], index["column_names"]] for index in inspector.get_indexes("Accounts")]
        expect("indexes", indexes, [["AccountsByRegion", ["Region", "Balance"]]])
        key = inspector.get_pk_constraint("Accounts")["constrained_columns"]
        return {"columns": columns, "indexes": indexes, "key": key, "tables": sorted(inspector.get_table_names())}

    def insert_mutations(self):
        # The dialect has no mutations: the ORM's inserts are batches of DML.
        self.add(*map(account, range(ROWS)))
        with self.autocommit.connect() as connection:
            count = connection.execute(select(func.count()).select_from(Account)).scalar()
        expect("rows", count, ROWS)
        return {"rows": count}

    def read_by_key(self):
        with Session(self.engine) as session:
            row = session.get(Account, "account-00042").values()
            missing = session.get(Account, "account-99999")
        expect("row", row, stored(42))
        expect("a row that does not exist", missing, None)
        return {"row": row}

    def read_by_index(self):
        query = (
            select(Account.region, Account.balance, Account.id)
            .with_hint(Account, "@{FORCE_INDEX=AccountsByRegion}")
            .where(Account.region == "west")
            .order_by(Account.balance)
        )
        with self.autocommit.connect() as connection:
            rows = rows_of(connection.execute(query))
        expect("rows", rows, data.by_index("west"))
        return {"rows": len(rows), "sha256": checksum(rows)}

    def read_key_range_with_limit(self):
        query = select(Account).where(Account.id > "account-00100", Account.id <= "account-00900").order_by(Account.id)
        with Session(self.autocommit) as session:
            rows = [row.values() for row in session.scalars(query.limit(300))]
        expect("rows", rows, [stored(number) for number in range(101, 401)])
        return {"rows": len(rows), "sha256": checksum(rows)}

    def dml_insert_update_delete_with_parameters(self):
        with self.engine.begin() as connection:
            inserted = connection.execute(
                insert(Account).values(
                    id="dml-1", balance=-(2**62), score=0.1, active=None, tags=["a", None], profile={"k": [1.5]}
                )
            ).rowcount
            updated = connection.execute(
                update(Account).where(Account.id == "dml-1").values(balance=Account.balance + 5)
            ).rowcount
            columns = [Account.balance, Account.score, Account.active, Account.tags, Account.profile]
            row = connection.execute(select(*columns).where(Account.id == "dml-1")).one()
            row = [*row[:3], list(row.Tags), dict(row.Profile)]
            deleted = connection.execute(delete(Account).where(Account.id == "dml-1")).rowcount
        with self.autocommit.connect() as connection:
            left = rows_of(connection.execute(select(Account.id).where(Account.id == "dml-1")))
        expect("counts", [inserted, updated, deleted], [1, 1, 1])
        expect("row", row, [-(2**62) + 5, 0.1, None, ["a", None], {"k": [1.5]}])
        expect("rows left", left, [])
        return {"counts": [inserted, updated, deleted], "row": row}

    def batch_dml(self):
        with self.engine.begin() as connection:
            connection.execute(
                insert(Account.__table__), [{"Id": f"batch-{number}", "Balance": number} for number in (1, 2)]
            )
            updated = connection.execute(
                update(Account).where(Account.id.startswith("batch-")).values(balance=Account.balance * 10)
            ).rowcount

        def fails_in_the_middle():
            with self.engine.begin() as connection:
                connection.execute(insert(Account.__table__), [{"Id": f"batch-{number}"} for number in (3, 1, 4)])

        # The dialect rolls the transaction back, so nothing of the batch stays.
        bad = self.failure(fails_in_the_middle, sqlalchemy.exc.OperationalError)
        query = select(Account.id, Account.balance).where(Account.id.startswith("batch-")).order_by(Account.id)
        with self.autocommit.connect() as connection:
            rows = rows_of(connection.execute(query))
        expect("updated", updated, 2)
        expect("rows", rows, [["batch-1", 10], ["batch-2", 20]])
        self.remove("batch-1", "batch-2")
        return {"updated": updated, "bad": bad, "rows": rows}

    def read_write_transaction(self):
        self.add(Account(id="from", balance=100), Account(id="to", balance=0))
        with Session(self.engine) as session, session.begin():
            source, target = session.get(Account, "from"), session.get(Account, "to")
            seen = [source.balance, target.balance]
            source.balance -= 30
            target.balance += 30
        after = [self.balance("from"), self.balance("to")]
        expect("read in the transaction", seen, [100, 0])
        expect("balances", after, [70, 30])
        self.remove("from", "to")
        return {"seen": seen, "after": after}

    def transaction_aborts_and_retries(self):
        self.add(Account(id="contended", balance=0))
        increment = update(Account).where(Account.id == "contended").values(balance=Account.balance + 1)
        retries = []
        decided = threading.Event()
        library_retry = TransactionRetryHelper.retry_transaction

        def watched_retry(*arguments, **options):
            retries.append(threading.get_ident())
            decided.set()
            return library_retry(*arguments, **options)

        def second():
            with self.engine.begin() as connection:
                connection.execute(increment)

        # The dialect retries out of sight; the patch only sees that it does.
        with (unittest.mock.patch.object(TransactionRetryHelper, "retry_transaction", watched_retry),
              concurrent.futures.ThreadPoolExecutor(1) as threads):
            with self.engine.begin() as connection:
                connection.execute(increment)
                other = threads.submit(second)
                # The emulator aborts the newcomer, which then retries until this one is through; or it aborts this one,
                # which learns of it when it commits.
                other.add_done_callback(lambda _: decided.set())
                expect("one of the two is aborted", decided.wait(30), True)
            other.result(60)
        expect("an attempt was aborted and retried", len(retries) > 0, True)
        expect("increments", self.balance("contended"), 2)
        self.remove("contended")
        return {"transactions": 2, "increments": 2, "retried": True}

    def rollback_leaves_no_trace(self):
        with Session(self.engine) as session:
            session.add(Account(id="rolled-back"))
            session.flush()
            expect("row inside the transaction", session.get(Account, "rolled-back") is not None, True)
            session.rollback()
        with self.autocommit.connect() as connection:
            rows = rows_of(connection.execute(select(Account.id).where(Account.id == "rolled-back")))
        expect("rows", rows, [])
        return {"rows": rows}

    def multi_use_snapshot(self):
        self.add(Account(id="observed", balance=1))
        query = select(Account.balance).where(Account.id == "observed")
        with self.engine.connect().execution_options(read_only=True) as connection:
            before = connection.execute(query).scalar()
            self.set_balance("observed", 2)
            after = connection.execute(query).scalar()
        now = self.balance("observed")
        expect("both reads and a new one", [before, after, now], [1, 1, 2])
        self.remove("observed")
        return {"before": before, "after": after, "now": now}

    def stale_read(self):
        self.add(Account(id="stale", balance=1))
        time.sleep(1.2)
        began = time.monotonic()
        self.set_balance("stale", 2)
        # Half way between the two commits.
        staleness = datetime.timedelta(seconds=time.monotonic() - began + 0.6)
        exact = self.balance("stale", staleness={"exact_staleness": staleness})
        expect("balance before the update", exact, 1)
        # A bound is for single-use reads; the server may choose any time within it, so either value is right.
        options = {"read_only": True, "staleness": {"max_staleness": staleness}}
        with self.autocommit.connect().execution_options(**options) as connection:
            bounded = connection.execute(select(Account.balance).where(Account.id == "stale")).scalar()
        expect("balance within the bound is one that was written", bounded in (1, 2), True)
        self.remove("stale")
        return {"exact": exact, "max_staleness": "1 or 2"}

    def exact_time_read(self):
        def now():
            [[at]] = rows_of(connection.execute(text("SELECT CURRENT_TIMESTAMP()")))
            return at

        with self.autocommit.connect() as connection:
            first = now()
            self.add(Account(id="timed", balance=1))
            second = now()
            self.set_balance("timed", 2)
        seen = [self.balance("timed", staleness={"read_timestamp": at}) for at in (first, second)]
        expect("balances before the insert and before the update", seen, [None, 1])
        self.remove("timed")
        return {"seen": seen}

    def large_streamed_result(self):
        for start in range(0, DOCUMENTS, 8):
            self.add(*[Document(id=number, body=document(number)) for number in range(start, start + 8)])
        digest, rows, size = hashlib.sha256(), 0, 0
        with self.autocommit.connect() as connection:
            for number, body in connection.execute(select(Document.id, Document.body).order_by(Document.id)):
                expect(f"document {number}", body == document(number), True)
                digest.update(body.encode())
                rows, size = rows + 1, size + len(body)
        expect("rows", rows, DOCUMENTS)
        expect("size", size, DOCUMENTS * DOCUMENT_LENGTH)
        return {"rows": rows, "bytes": size, "sha256": digest.hexdigest()}

    def partitioned_query(self):
        with self.autocommit.connect() as connection:
            rows = sorted(rows_of(connection.execute(text("RUN PARTITIONED QUERY SELECT Id, Balance FROM Accounts"))))
        expect("rows", rows, data.balances(range(ROWS)))
        return {"rows": len(rows), "sha256": checksum(rows)}

    def partitioned_dml(self):
        with self.autocommit.connect() as connection:
            connection.connection.set_autocommit_dml_mode(AutocommitDmlMode.PARTITIONED_NON_ATOMIC)
            count = connection.execute(text("UPDATE Accounts SET Note = 'north' WHERE Region = 'north'")).rowcount
            connection.connection.set_autocommit_dml_mode(AutocommitDmlMode.TRANSACTIONAL)
            noted = connection.execute(text("SELECT COUNT(*) FROM Accounts WHERE Note = 'north'")).scalar()
        expect("rows", [count, noted], [ROWS // 4, ROWS // 4])
        return {"lower_bound": count, "noted": noted}

    def fifty_concurrent_readers(self):
        start = threading.Barrier(READERS)

        def reader(number):
            start.wait(30)
            rows = []
            with self.autocommit.connect() as connection:
                for turn in range(READS_EACH):
                    key = f"account-{number * READS_EACH + turn:05}"
                    query = select(Account.id, Account.balance).where(Account.id == key)
                    rows += rows_of(connection.execute(query))
            return rows

        with concurrent.futures.ThreadPoolExecutor(READERS) as threads:
            rows = sorted(row for run in threads.map(reader, range(READERS)) for row in run)
        expect("rows", rows, data.balances(range(READERS * READS_EACH)))
        return {"readers": READERS, "rows": len(rows), "sha256": checksum(rows)}

    def request_metadata_large(self):
        value = document(1)[:500 * 1024]
        with self.autocommit.connect().execution_options(request_tag="client-checks,case=large") as connection:
            query = text("SELECT LENGTH(:value), TO_HEX(SHA256(:value))").bindparams(value=value)
            [[length, digest]] = rows_of(connection.execute(query))
        expect("length", length, len(value))
        expect("digest", digest, hashlib.sha256(value.encode()).hexdigest())
        return {"length": length, "sha256": digest}

    def error_not_found(self):
        missing = sqlalchemy.create_engine(f"spanner+spanner:///{self.instance.name}/databases/missing-database")

        def use_missing_database():
            with missing.connect() as connection:
                connection.execute(text("SELECT 1"))

        return {
            "database": self.failure(use_missing_database, exceptions.NotFound),
            "table": self.failure(lambda: self.run("SELECT * FROM Missing"), sqlalchemy.exc.ProgrammingError),
            "table_ddl": self.failure(lambda: self.run("DROP TABLE Missing"), exceptions.NotFound),
        }

    def run(self, sql):
        with self.autocommit.connect() as connection:
            result = connection.execute(text(sql))
            return rows_of(result) if result.returns_rows else []

    def error_already_exists(self):
        row = self.failure(lambda: self.add(Account(id="account-00001")), sqlalchemy.exc.IntegrityError)
        with self.autocommit.connect() as connection:
            [[balance]] = rows_of(connection.execute(select(Account.balance).where(Account.id == "account-00001")))
        expect("balance is unchanged", balance, account(1).balance)
        database = self.failure(lambda: self.database.create().result(30), exceptions.AlreadyExists)
        return {"row": row, "database": database}

    def error_invalid_sql(self):
        seen = self.failure(lambda: self.run("SELECT Missing FROM Accounts"), sqlalchemy.exc.ProgrammingError)
        expect("code", seen["code"], "INVALID_ARGUMENT")
        division = self.failure(lambda: self.run("SELECT 1 / 0"), sqlalchemy.exc.IntegrityError)
        return {"column": seen, "division": division}

    def drop_database(self):
        Base.metadata.drop_all(self.engine)
        tables = sqlalchemy.inspect(self.engine).get_table_names()
        expect("tables", tables, [])
        self.engine.dispose()
        self.database.drop()
        gone = self.failure(self.database.reload, exceptions.NotFound)
        self.instance.delete()
        return {"tables": tables, "gone": gone}


if __name__ == "__main__":
    sys.exit(SqlalchemyChecks(Harness(sys.argv)).all())
