"""The rows that the checks write: all of them follow from their number, so every check knows what it must read."""

import datetime
import hashlib

REGIONS = ["north", "east", "south", "west"]
ROWS = 1000
DOCUMENTS = 24
DOCUMENT_LENGTH = 512 * 1024  # 24 of these are 12 MiB
READERS = 50
READS_EACH = 20


def account(number):
    return {
        "Id": f"account-{number:05}",
        "Region": REGIONS[number % 4],
        "Balance": number * 7919 - 1_000_000,
        "Score": number / 7,
        "Active": number % 3 == 0,
        "Token": hashlib.sha256(str(number).encode()).digest(),
        "CreatedAt": datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
        + datetime.timedelta(seconds=number, microseconds=number),
        "Tags": [f"tag-{number % 10}", "größe", ""],
        "Profile": {"number": number, "nested": {"even": number % 2 == 0, "list": [1, None, "ü"]}},
    }


def balances(numbers):
    """What `SELECT Id, Balance` gives for these accounts, in this order."""
    return [[row["Id"], row["Balance"]] for row in map(account, numbers)]


def by_index(region):
    """Region, balance and id of a region's accounts, in the order of the index on region and balance."""
    return [[region, row["Balance"], row["Id"]] for row in map(account, range(ROWS)) if row["Region"] == region]


def document(number):
    seed = hashlib.sha512(str(number).encode()).hexdigest()
    return (seed * (DOCUMENT_LENGTH // len(seed) + 1))[:DOCUMENT_LENGTH]


def timestamp(moment):
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
