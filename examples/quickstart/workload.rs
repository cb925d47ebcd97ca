//! The work: Google's own client, direct and through the sidecar, in rounds that take turns, so that noise hits both.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use google_cloud_spanner::Error;
use google_cloud_spanner::builder::SpannerBuilderExt as _;
use google_cloud_spanner::channel_pool::{ChannelPoolConfig, StaticChannelPoolConfig};
use google_cloud_spanner::client::{DatabaseClient, Spanner};
use google_cloud_spanner::key;
use google_cloud_spanner::key::KeySet;
use google_cloud_spanner::mutation::Mutation;
use google_cloud_spanner::read::ReadRequest;
use google_cloud_spanner::result::ResultSet;
use google_cloud_spanner::statement::Statement;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::database::DATABASE;
use crate::failure::Failure;
use crate::progress::Task;
use crate::table::Row;

const ACCOUNTS: i64 = 1000;
const OPENING_BALANCE: i64 = 100;
const PHOTOS: i64 = 16;
/// 16 of these are 4 MiB, more than any buffer on the way holds.
const PHOTO_BYTES: usize = 256 * 1024;

/// Turns that each side gets in a step.
const ROUNDS: usize = 10;

/// A step that takes longer hangs; each takes below ten seconds on a quiet machine.
const STEP_LIMIT: Duration = Duration::from_secs(120);

/// Where the client connects, and the client.
#[derive(Clone)]
pub(crate) struct Side {
    name: &'static str,
    url: String,
    client: DatabaseClient,
}

/// Direct, and through the sidecar.
pub(crate) type Sides = [Side; 2];

/// One kind of call.
#[derive(Debug, Clone, Copy)]
enum Kind {
    FirstCall,
    Read,
    Query,
    Transfer,
    Stream,
}

struct Step {
    what: &'static str,
    kind: Kind,
    /// Readers at once.
    tasks: usize,
    /// Calls of each of them in a round.
    calls: usize,
}

const STEPS: [Step; 6] = [
    Step { what: "first call of a new client", kind: Kind::FirstCall, tasks: 1, calls: 2 },
    Step { what: "read by key", kind: Kind::Read, tasks: 1, calls: 100 },
    Step { what: "query", kind: Kind::Query, tasks: 1, calls: 50 },
    // One at a time: the emulator takes one read-write transaction per database.
    Step { what: "read-write transaction", kind: Kind::Transfer, tasks: 1, calls: 20 },
    Step { what: "4 MiB streamed", kind: Kind::Stream, tasks: 1, calls: 3 },
    Step { what: "read by key, 16 at once", kind: Kind::Read, tasks: 16, calls: 10 },
];

/// Connects a client to each side.
pub(crate) async fn connect(direct: SocketAddr, sidecar: SocketAddr) -> Result<Sides, Failure> {
    let side = async |name, address: SocketAddr| {
        let url = format!("http://{address}");
        let client = client(&url).await.map_err(|error| failed("a new client", name, error))?;
        Ok(Side { name, url, client })
    };
    Ok([side("direct", direct).await?, side("through the sidecar", sidecar).await?])
}

/// What SPANNER_EMULATOR_HOST gives an application: one plaintext channel, no credentials.
async fn client(url: &str) -> Result<DatabaseClient, String> {
    let one_channel = ChannelPoolConfig::Static(StaticChannelPoolConfig::new(1));
    let spanner = Spanner::builder().with_endpoint(url).with_channel_pool(one_channel).build().await;
    spanner.map_err(|error| error.to_string())?.database_client(DATABASE).build().await.map_err(|error| error.to_string())
}

/// Writes the rows that the steps use.
pub(crate) async fn fill([_, through]: &Sides) -> Result<(), Failure> {
    let account = |id| {
        let row = Mutation::new_insert_builder("Accounts").set("AccountId").to(id).set("Owner").to(owner(id));
        row.set("Balance").to(OPENING_BALANCE).build()
    };
    let photo = |id| Mutation::new_insert_builder("Photos").set("PhotoId").to(id).set("Data").to(vec![0x5a_u8; PHOTO_BYTES]).build();
    for mutations in [(0..ACCOUNTS).map(account).collect::<Vec<_>>(), (0..PHOTOS).map(photo).collect()] {
        let written = through.client.write_only_transaction().build().write(mutations).await;
        written.map_err(|error| failed("writing rows", through.name, error))?;
    }
    Ok(())
}

/// Runs all steps.
pub(crate) async fn run(sides: &Sides) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for step in &STEPS {
        let task = Task::begin(format_args!("  {}", step.what));
        let measured = timeout(STEP_LIMIT, step.measure(sides)).await;
        rows.push(measured.map_err(|_| failed(step.what, "direct or through the sidecar", format_args!("no end after {STEP_LIMIT:?}")))??);
        task.end();
    }
    Ok(rows)
}

/// No money was lost or made, whichever way the transactions went.
pub(crate) async fn verify(sides: &Sides) -> Result<(), Failure> {
    for side in sides {
        let sum = side.balances().await.map_err(|error| failed("the sum of balances", side.name, error))?;
        if sum != ACCOUNTS * OPENING_BALANCE {
            let what = format!("the balances add up to {sum}, not to {}, read {}", ACCOUNTS * OPENING_BALANCE, side.name);
            return Err(Failure::new(what, "This is a bug: please report it"));
        }
    }
    Ok(())
}

impl Step {
    async fn measure(&self, sides: &Sides) -> Result<Row, Failure> {
        let mut taken = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            // The one that goes first changes, so that neither side always finds the caches warm.
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            for index in order {
                let times = self.turn(&sides[index], round).await?;
                // The first round warms up.
                if round > 0 {
                    taken[index].extend(times);
                }
            }
        }
        let [direct, through] = taken;
        Ok(Row { what: self.what, direct, through })
    }

    /// One round of one side: how long each call took.
    async fn turn(&self, side: &Side, round: usize) -> Result<Vec<Duration>, Failure> {
        let mut tasks = JoinSet::new();
        for task in 0..self.tasks {
            let (side, kind, calls) = (side.clone(), self.kind, self.calls);
            tasks.spawn_local(async move {
                let mut times = Vec::with_capacity(calls);
                for call in 0..calls {
                    let number = (round * calls + call) * 31 + task;
                    let start = Instant::now();
                    side.call(kind, number as i64 % ACCOUNTS).await?;
                    times.push(start.elapsed());
                }
                Ok::<_, String>(times)
            });
        }
        let mut times = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            let taken = ended.unwrap_or_else(|error| Err(error.to_string()));
            times.extend(taken.map_err(|error| failed(self.what, side.name, error))?);
        }
        Ok(times)
    }
}

impl Side {
    /// Makes one call and checks its answer.
    async fn call(&self, kind: Kind, id: i64) -> Result<(), String> {
        let text = |error: Error| error.to_string();
        match kind {
            Kind::FirstCall => expect(query_owner(&client(&self.url).await?, id).await.map_err(text)?, owner(id)),
            Kind::Read => expect(self.read_owner(id).await.map_err(text)?, owner(id)),
            Kind::Query => expect(query_owner(&self.client, id).await.map_err(text)?, owner(id)),
            Kind::Transfer => self.transfer(id, (id + 1) % ACCOUNTS).await.map_err(text),
            Kind::Stream => expect(self.stream().await.map_err(text)?, PHOTOS as usize * PHOTO_BYTES),
        }
    }

    async fn read_owner(&self, id: i64) -> Result<String, Error> {
        let request = ReadRequest::builder("Accounts", ["Owner"]).with_keys(key![id]).build();
        let rows = self.client.single_use().build().execute_read(request).await?;
        Ok(column::<String>(rows).await?.join(","))
    }

    async fn transfer(&self, from: i64, to: i64) -> Result<(), Error> {
        let add = |id: i64, amount: i64| {
            Statement::builder("UPDATE Accounts SET Balance = Balance + @amount WHERE AccountId = @id")
                .add_param("amount", amount)
                .add_param("id", id)
                .build()
        };
        let transaction = self.client.read_write_transaction().build();
        let moved = transaction.run(async |transaction| {
            let request = ReadRequest::builder("Accounts", ["Balance"]).with_keys(key![from]).build();
            let amount = i64::from(column::<i64>(transaction.execute_read(request).await?).await?.iter().sum::<i64>() > 0);
            transaction.execute_batch_update(vec![add(from, -amount), add(to, amount)]).await
        });
        moved.await.map(drop)
    }

    /// Streams all photos; says how many bytes came.
    async fn stream(&self) -> Result<usize, Error> {
        let request = ReadRequest::builder("Photos", ["Data"]).with_keys(KeySet::all()).build();
        let mut rows = self.client.single_use().build().execute_read(request).await?;
        let mut bytes = 0;
        while let Some(row) = rows.next().await {
            bytes += row?.get::<Vec<u8>>(0)?.len();
        }
        Ok(bytes)
    }

    async fn balances(&self) -> Result<i64, Error> {
        let rows = self.client.single_use().build().execute_query("SELECT Balance FROM Accounts").await?;
        Ok(column::<i64>(rows).await?.iter().sum())
    }
}

fn owner(id: i64) -> String {
    format!("owner-{id}")
}

async fn query_owner(client: &DatabaseClient, id: i64) -> Result<String, Error> {
    let query = Statement::builder("SELECT Owner FROM Accounts WHERE AccountId = @id").add_param("id", id).build();
    let rows = client.single_use().build().execute_query(query).await?;
    Ok(column::<String>(rows).await?.join(","))
}

/// The first column of all rows.
async fn column<T: google_cloud_spanner::value::FromValue>(mut rows: ResultSet) -> Result<Vec<T>, Error> {
    let mut values = Vec::new();
    while let Some(row) = rows.next().await {
        values.push(row?.get(0)?);
    }
    Ok(values)
}

fn expect<T: PartialEq + std::fmt::Debug>(got: T, wanted: T) -> Result<(), String> {
    if got == wanted { Ok(()) } else { Err(format!("{got:?} came instead of {wanted:?}")) }
}

fn failed(what: &str, side: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new(
        format!("{what}, {side}: {error}"),
        "The same with --stand-in tells whether the emulator is at fault; if it is not, please report it",
    )
}
