//! Direct against proxied: the same bytes are sent to a backend and, through the sidecar, to another one like it. Status,
//! headers, messages, trailers and resets must be the same, and upstream must receive what was sent.
//!
//! What may differ stands in [`Allowed`], values that differ from run to run in `normal`; anything else is a defect.

mod answers;
mod case;
mod compare;
mod lane;
mod messages;
mod normal;
mod requests;
mod walk_admin;
mod walk_data;

use std::collections::BTreeSet;

use case::Case;
use lane::{Pair, Routing};
use spanner_sidecar::call::method::TABLE;

/// Everything that the sidecar may do differently, each with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Allowed {
    /// `:authority` is upstream's own name: Google's front ends route by it.
    Authority,
    /// Never-indexed marks, Huffman coding, the order of fields with different names, where DATA frames begin and end:
    /// they mean nothing to gRPC, and each connection has its own. Not compared.
    Framing,
    /// The headers by which Google routes are added where the client left them out, exactly as Google's clients write them.
    RoutingHeaders,
    /// `te: trailers` speaks for one hop (RFC 9110, section 10.1.4); the sidecar does read trailers, so it says so.
    Te,
    /// A request that is not gRPC can't be forwarded as a call. The answer is HTTP 415, as gRPC's specification asks for.
    NotGrpc,
    /// Services other than Spanner's are not served: they would get Spanner's credentials.
    NotServed,
    /// Health and reflection are the sidecar's own.
    Local,
    /// More than Spanner takes is refused before it is sent.
    Limit,
    /// What upstream provably left unprocessed is sent again; its request id counts the attempts.
    Repeated,
    /// A connection lost upstream is not one lost downstream: its calls end with UNAVAILABLE, the others go on.
    ConnectionLost,
    /// A call that is cancelled before its message is complete need not have been sent.
    Unsent,
}

/// Those that every comparison takes into account; the others are marked in the cases.
const IN_EVERY_CASE: [Allowed; 3] = [Allowed::Authority, Allowed::Framing, Allowed::RoutingHeaders];

impl Allowed {
    fn reaches_upstream(self) -> bool {
        matches!(self, Allowed::Te | Allowed::Repeated | Allowed::ConnectionLost)
    }
}

/// Fails with all differences.
fn none_of(differences: &[String]) {
    assert!(
        differences.is_empty(),
        "{} differences (direct / proxied, or expected / found):\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// Everything that a backend is asked, in an order in which later calls find what earlier ones made.
fn walk() -> Vec<Case> {
    [walk_admin::before(), walk_data::cases(), requests::cases(), walk_admin::after()].into_iter().flatten().collect()
}

fn methods_not_in(covered: &BTreeSet<String>) -> Vec<&'static str> {
    TABLE.iter().map(|method| method.path).filter(|path| !covered.contains(*path)).collect()
}

#[tokio::test]
async fn the_emulator_answers_every_method_the_same_through_the_sidecar() {
    let Some(mut pair) = Pair::emulators().await else { return };
    none_of(&pair.run(&walk()).await);
    assert_eq!(methods_not_in(pair.covered()), [""; 0], "methods without a case");
}

#[tokio::test]
async fn the_simulated_spanner_answers_every_method_the_same_through_the_sidecar() {
    let mut pair = Pair::sims(Routing::Sent).await;
    none_of(&pair.run(&walk()).await);
    assert_eq!(methods_not_in(pair.covered()), [""; 0], "methods without a case");
}

#[tokio::test]
async fn a_client_that_leaves_routing_headers_out_is_routed_as_googles_clients_are() {
    let mut pair = Pair::sims(Routing::LeftOut).await;
    // A simulated Spanner that lets headers be missing does not judge the others either: no odd requests here.
    let cases: Vec<Case> = [walk_admin::before(), walk_data::cases(), walk_admin::after()].into_iter().flatten().collect();
    none_of(&pair.run(&cases).await);
    assert_eq!(methods_not_in(pair.covered()), [""; 0], "methods without a case");
}

#[tokio::test]
async fn an_answer_that_nobody_could_decode_passes_for_every_method() {
    let mut pair = Pair::sims(Routing::Sent).await;
    none_of(&pair.run(&answers::of_every_method()).await);
    assert_eq!(methods_not_in(pair.covered()), [""; 0], "methods without a case");
}

#[tokio::test]
async fn odd_answers_pass_as_they_are() {
    none_of(&Pair::sims(Routing::Sent).await.run(&answers::odd()).await);
}

#[tokio::test]
async fn resets_and_cancellations_pass_both_ways() {
    none_of(&Pair::sims(Routing::Sent).await.run(&answers::ends()).await);
}

#[test]
fn at_least_twenty_kinds_of_error_are_compared() {
    let cases = [walk(), answers::odd(), answers::ends()];
    let errors: BTreeSet<_> = cases.iter().flatten().filter(|case| case.is_error()).map(|case| case.title.as_str()).collect();
    assert!(errors.len() >= 20, "{} errors: {errors:?}", errors.len());
}

#[test]
fn every_allowed_difference_is_one_that_is_seen() {
    let (cases, ends) = (walk(), answers::ends());
    let marked = cases.iter().chain(&ends).filter_map(|case| case.differs.as_ref()).map(|differs| differs.as_allowed);
    let seen: BTreeSet<_> = marked.chain(IN_EVERY_CASE).collect();
    let all = Allowed::Authority as usize..=Allowed::Unsent as usize;
    assert_eq!(seen.len(), all.count(), "cases show only {seen:?}");
}

#[test]
fn a_difference_in_any_part_of_an_answer_is_found() {
    use crate::support::raw::{Answer, frame};
    let headers = |value: &str| http::HeaderMap::from_iter([(http::header::SERVER, value.parse().unwrap())]);
    let answer = |body: &[u8]| Answer {
        http_status: 200,
        headers: headers("a"),
        body: frame(body).to_vec(),
        trailers: Some(headers("a")),
        ..Answer::default()
    };
    let plain = || answer(b"\x0a\x01x");
    let compared = |other: &Answer| {
        let mut found = compare::Differences::default();
        found.answers("/google.spanner.v1.Spanner/Commit", &plain(), other);
        found.0.len()
    };
    assert_eq!(compared(&plain()), 0);
    let others = [
        Answer { http_status: 503, ..plain() },
        Answer { headers: headers("b"), ..plain() },
        Answer { headers: http::HeaderMap::new(), ..plain() },
        Answer { trailers: Some(headers("b")), ..plain() },
        Answer { trailers_only: true, ..plain() },
        Answer { reset: Some("CANCEL".into()), ..plain() },
        Answer { body: [frame(b"\x0a\x01x"), frame(b"")].concat(), ..plain() },
        Answer { body: vec![], ..plain() },
        Answer { body: b"\x01\0\0\0\x03\x0a\x01x".to_vec(), ..plain() },
        Answer { body: b"\0\0\0\0\x04\x0a\x01x".to_vec(), ..plain() },
        answer(b"\x0a\x01y"),
    ];
    for other in others {
        assert_eq!(compared(&other), 1, "{other:?}");
    }
}
