"""`gcloud spanner` over REST against SPANNER_EMULATOR_REST: the checks that a command line can express.

Each check is a few commands, so rows are few, and what would need one process to hold two calls open is left out.
Missing databases and database roles are left out, too: the emulator's REST side answers them with 500 and 501, which
gcloud repeats for 30 s.
"""

import hashlib
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "python"))  # for the harness alone
from harness import Harness, checksum, expect, random_suffix  # noqa: E402

SCHEMA = (
    "CREATE TABLE Accounts (Id STRING(36) NOT NULL, Region STRING(16), Balance INT64, Score FLOAT64, Active BOOL,"
    " Token BYTES(64), CreatedAt TIMESTAMP, Tags ARRAY<STRING(MAX)>, Profile JSON) PRIMARY KEY (Id);"
    "CREATE INDEX AccountsByRegion ON Accounts(Region, Balance)"
)
ROWS = 1000
COMMAND_LIMIT_S = 60


class CommandFailed(Exception):
    def __init__(self, code, text):
        super().__init__(f"exit code {code}: {text}")
        self.code = code
        self.text = text


class GcloudChecks:
    def __init__(self, harness):
        self.harness = harness
        suffix = random_suffix()
        self.instance, self.database = f"gcloud-{suffix}", f"checks-{suffix}"
        harness.hide(self.instance, "INSTANCE")
        harness.hide(self.database, "DATABASE")

    def all(self):
        self.harness.check(self.create_instance_and_database, needed=True)
        for check in [
            self.insert_mutations,
            self.read_by_key,
            self.read_by_index,
            self.read_key_range_with_limit,
            self.dml_insert_update_delete_with_parameters,
            self.exact_time_read,
            self.large_result,
            self.partitioned_dml,
            self.error_not_found,
            self.error_already_exists,
            self.error_invalid_sql,
        ]:
            self.harness.check(check)
        self.harness.check(self.drop_database, always=True)
        return self.harness.finish()

    # --- what the checks share ---

    def gcloud(self, *arguments):
        """Runs `gcloud spanner` and returns what it printed."""
        command = ["gcloud", "spanner", *arguments, "--format=json", "--verbosity=error"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_LIMIT_S
        )
        if done.returncode != 0:
            raise CommandFailed(done.returncode, done.stderr.strip())
        return json.loads(done.stdout) if done.stdout.strip() else None

    def of_instance(self, *arguments):
        return self.gcloud(*arguments, f"--instance={self.instance}")

    def update_ddl(self, statement):
        return self.of_instance("databases", "ddl", "update", self.database, f"--ddl={statement}")

    def rows(self, verb, *options):
        return self.of_instance("rows", verb, f"--database={self.database}", "--table=Accounts", *options)

    def sql(self, sql, *options):
        return self.of_instance("databases", "execute-sql", self.database, f"--sql={sql}", *options)

    def query(self, sql, *options):
        return self.sql(sql, *options).get("rows", [])

    def failure(self, call):
        """What a person sees of the error that the command must end with."""
        try:
            call()
        except CommandFailed as error:
            return {"exit": error.code, "text": self.harness.scrub(error.text)}
        raise AssertionError("no error")

    def expect_error(self, seen, status):
        expect(f"{status} in what gcloud printed", status in seen["text"], True)
        return seen

    # --- the checks ---

    def create_instance_and_database(self):
        settings = ["--config=emulator-config", "--description=client checks", "--nodes=1"]
        self.gcloud("instances", "create", self.instance, *settings)
        listed = [item["name"].split("/")[-1] for item in self.gcloud("instances", "list")]
        expect("instance is listed", self.instance in listed, True)
        instance = self.gcloud("instances", "describe", self.instance)
        expect("nodes", instance["nodeCount"], 1)
        self.of_instance("databases", "create", self.database, f"--ddl={SCHEMA}")
        self.update_ddl("ALTER TABLE Accounts ADD COLUMN Note STRING(MAX)")
        ddl = self.of_instance("databases", "ddl", "describe", self.database)
        expect("the added column is described", "Note STRING(MAX)" in json.dumps(ddl), True)
        database = self.of_instance("databases", "describe", self.database)
        databases = [item["name"].split("/")[-1] for item in self.of_instance("databases", "list")]
        expect("databases", databases, [self.database])
        operations = self.of_instance("operations", "list", f"--database={self.database}")
        expect("operations are done", [item["done"] for item in operations], [True, True])
        return {
            "instance": [instance["displayName"], instance["nodeCount"], instance["state"]],
            "database": sorted(database),
            "state": database["state"],
            "ddl": ddl,
            "operations": sorted(sorted(item["metadata"]) for item in operations),
        }

    def insert_mutations(self):
        for number in range(3):
            values = f"Id=row-{number},Region=north,Balance={number},Score={number / 4},Active=true"
            committed = self.rows("insert", f"--data={values}")
            expect("keys of the answer", list(committed), ["commitTimestamp"])
        self.rows("update", "--data=Id=row-1,Balance=-9007199254740993")
        self.rows("delete", "--keys=row-2")
        rows = self.query("SELECT Id, Region, Balance, Score, Active FROM Accounts ORDER BY Id")
        expect("rows", rows, [["row-0", "north", "0", 0, True], ["row-1", "north", "-9007199254740993", 0.25, True]])
        return {"rows": rows}

    def read_by_key(self):
        answer = self.sql("SELECT * FROM Accounts WHERE Id = 'row-1'")
        types = [[field["name"], field["type"]] for field in answer["metadata"]["rowType"]["fields"]]
        expect("columns", len(types), 10)
        return {"types": types, "rows": answer["rows"]}

    def read_by_index(self):
        sql = "SELECT Balance, Id FROM Accounts@{FORCE_INDEX=AccountsByRegion} WHERE Region = 'north' ORDER BY Balance"
        rows = self.query(sql)
        expect("rows", rows, [["-9007199254740993", "row-1"], ["0", "row-0"]])
        return {"rows": rows}

    def read_key_range_with_limit(self):
        rows = self.query("SELECT Id FROM Accounts WHERE Id > 'row-0' AND Id <= 'row-9' ORDER BY Id LIMIT 1")
        expect("rows", rows, [["row-1"]])
        return {"rows": rows}

    def dml_insert_update_delete_with_parameters(self):
        # The command line takes no parameters.
        counts = [
            self.sql(statement)["stats"]["rowCountExact"]
            for statement in (
                "INSERT INTO Accounts (Id, Region, Balance, Token, CreatedAt, Tags, Profile)"
                " SELECT FORMAT('account-%05d', number), IF(MOD(number, 4) = 0, 'south', 'west'), number,"
                " CAST(CAST(number AS STRING) AS BYTES), TIMESTAMP '2020-01-01T00:00:00Z', ['größe', NULL],"
                f" JSON '{{\"list\": [1, null]}}' FROM UNNEST(GENERATE_ARRAY(0, {ROWS - 1})) number",
                "UPDATE Accounts SET Balance = Balance * 10 WHERE Region = 'south'",
                "DELETE FROM Accounts WHERE Region = 'north'",
            )
        ]
        expect("counts", counts, [str(ROWS), str(ROWS // 4), "2"])
        rows = self.query("SELECT Id, Balance, Token, CreatedAt, Tags, Profile FROM Accounts ORDER BY Id")
        balances = [[f"account-{number:05}", str(number * 10 if number % 4 == 0 else number)] for number in range(ROWS)]
        expect("keys and balances", [row[:2] for row in rows], balances)
        return {"counts": counts, "rows": len(rows), "sha256": checksum(rows), "first": rows[0]}

    def exact_time_read(self):
        committed = self.rows("insert", "--data=Id=timed,Balance=1")["commitTimestamp"]
        self.rows("update", "--data=Id=timed,Balance=2")
        sql = "SELECT Balance FROM Accounts WHERE Id = 'timed'"
        seen = [self.query(sql, f"--read-timestamp={committed}"), self.query(sql, "--strong")]
        expect("balances", seen, [[["1"]], [["2"]]])
        self.rows("delete", "--keys=timed")
        return {"seen": seen}

    def large_result(self):
        # gcloud does not stream results, and the emulator's REST side takes at most 4 MiB from its own gRPC side.
        rows = self.query("SELECT number, REPEAT(TO_HEX(SHA256(CAST(number AS STRING))), 200)"
                          " FROM UNNEST(GENERATE_ARRAY(1, 300)) number ORDER BY number")
        wanted = [[str(number), hashlib.sha256(str(number).encode()).hexdigest() * 200] for number in range(1, 301)]
        expect("rows are right", rows == wanted, True)
        size = sum(len(text) for _, text in rows)
        expect("size", size, 300 * 200 * 64)
        return {"rows": len(rows), "bytes": size, "sha256": checksum(rows)}

    def partitioned_dml(self):
        answer = self.sql("UPDATE Accounts SET Note = 'south' WHERE Region = 'south'", "--enable-partitioned-dml")
        [[noted]] = self.query("SELECT COUNT(*) FROM Accounts WHERE Note = 'south'")
        expect("rows", noted, str(ROWS // 4))
        return {"stats": answer["stats"], "noted": noted}

    def error_not_found(self):
        row = self.failure(lambda: self.rows("update", "--data=Id=no-such-row,Balance=1"))
        table = self.failure(lambda: self.update_ddl("DROP TABLE Missing"))
        return {"row": self.expect_error(row, "404"), "table": self.expect_error(table, "404")}

    def error_already_exists(self):
        row = self.failure(lambda: self.rows("insert", "--data=Id=account-00001"))
        database = self.failure(lambda: self.of_instance("databases", "create", self.database))
        return {"row": self.expect_error(row, "409"), "database": self.expect_error(database, "already exists")}

    def error_invalid_sql(self):
        return {
            "syntax": self.expect_error(self.failure(lambda: self.sql("SELEKT 1")), "400"),
            "table": self.expect_error(self.failure(lambda: self.sql("SELECT * FROM Missing")), "400"),
        }

    def drop_database(self):
        self.of_instance("databases", "delete", self.database)
        left = self.of_instance("databases", "list")
        self.gcloud("instances", "delete", self.instance)
        listed = [item["name"].split("/")[-1] for item in self.gcloud("instances", "list") or []]
        expect("databases", left, [])
        expect("instance is listed", self.instance in listed, False)
        return {"databases": left}


if __name__ == "__main__":
    sys.exit(GcloudChecks(Harness(sys.argv)).all())
