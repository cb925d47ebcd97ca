//! Sessions: regular ones, with one live transaction at a time, and multiplexed ones.

use googleapis_tonic_google_spanner_v1::google::spanner::v1;
use prost_types::Timestamp;

use super::txn::TxnId;
use super::value::timestamp;
use super::{Reply, State, database_not_found, invalid, session_not_found};
use crate::status::Status;

/// Sessions in one answer of ListSessions unless the request asks for fewer.
const PAGE: usize = 100;

pub(super) struct Session {
    pub(super) proto: v1::Session,
    pub(super) database: String,
    pub(super) last_used: u64,
    /// The transaction that a regular session is at.
    pub(super) current: Option<TxnId>,
}

impl Session {
    fn shown(&self) -> v1::Session {
        // Multiplexed sessions do not report their last use.
        let last_use = (!self.proto.multiplexed).then(|| timestamp(self.last_used));
        v1::Session { approximate_last_use_time: last_use, ..self.proto.clone() }
    }
}

impl State {
    fn new_session(&mut self, database: &str, template: v1::Session) -> v1::Session {
        let at = self.tick();
        // Google's session ids are opaque; these sort in the order of creation.
        let name = format!("{database}/sessions/sim-{:08}", self.id());
        let create_time: Option<Timestamp> = Some(timestamp(at));
        let proto = v1::Session {
            name: name.clone(),
            labels: template.labels,
            create_time,
            approximate_last_use_time: None,
            creator_role: template.creator_role,
            multiplexed: template.multiplexed,
        };
        let session = Session { proto, database: database.to_owned(), last_used: at, current: None };
        let shown = session.shown();
        self.sessions.insert(name, session);
        shown
    }

    pub(super) fn create_session(&mut self, request: v1::CreateSessionRequest) -> Result<Reply, Status> {
        self.database(&request.database)?;
        Ok(Reply::unary(&self.new_session(&request.database, request.session.unwrap_or_default())))
    }

    pub(super) fn batch_create_sessions(&mut self, request: &v1::BatchCreateSessionsRequest) -> Result<Reply, Status> {
        self.database(&request.database)?;
        let template = request.session_template.clone().unwrap_or_default();
        if template.multiplexed {
            return Err(invalid("Multiplexed sessions cannot be created by BatchCreateSessions."));
        }
        let wanted = usize::try_from(request.session_count).ok().filter(|n| *n > 0).ok_or_else(|| {
            invalid(format!("Invalid number of sessions {}. Requested sessions should be greater than 0.", request.session_count))
        })?;
        let count = wanted.min(self.behaviour.sessions_per_batch);
        let session = (0..count).map(|_| self.new_session(&request.database, template.clone())).collect();
        Ok(Reply::unary(&v1::BatchCreateSessionsResponse { session }))
    }

    pub(super) fn get_session(&mut self, request: &v1::GetSessionRequest) -> Result<Reply, Status> {
        let session = self.sessions.get(&request.name).ok_or_else(|| session_not_found(&request.name))?;
        Ok(Reply::unary(&session.shown()))
    }

    pub(super) fn list_sessions(&mut self, request: &v1::ListSessionsRequest) -> Result<Reply, Status> {
        self.database(&request.database)?;
        let filters = filters(&request.filter)?;
        let after = &request.page_token;
        let of_this = |s: &&Session| {
            s.database == request.database
                && !s.proto.multiplexed
                && s.proto.name > *after
                && filters.iter().all(|(name, value)| s.proto.labels.get(name) == Some(value))
        };
        let mut sessions: Vec<v1::Session> = self.sessions.values().filter(of_this).map(Session::shown).collect();
        sessions.sort_by(|a, b| a.name.cmp(&b.name));
        let page = usize::try_from(request.page_size).ok().filter(|n| *n > 0).unwrap_or(PAGE).min(PAGE);
        let more = sessions.len() > page;
        sessions.truncate(page);
        let last = sessions.last().filter(|_| more).map(|s| s.name.clone());
        Ok(Reply::unary(&v1::ListSessionsResponse { sessions, next_page_token: last.unwrap_or_default() }))
    }

    pub(super) fn delete_session(&mut self, request: &v1::DeleteSessionRequest) -> Result<Reply, Status> {
        let session = self.sessions.get(&request.name).ok_or_else(|| session_not_found(&request.name))?;
        if session.proto.multiplexed {
            return Err(invalid(format!("Multiplexed sessions cannot be deleted: {}", request.name)));
        }
        self.drop_transactions(&request.name);
        self.sessions.remove(&request.name);
        Ok(Reply::unary(&()))
    }

    /// The session of a call, which counts as its use. A dropped database takes its sessions along.
    pub(super) fn session(&mut self, name: &str) -> Result<&mut Session, Status> {
        let now = self.now();
        let session = self.sessions.get_mut(name).ok_or_else(|| session_not_found(name))?;
        if !self.databases.contains_key(&session.database) {
            return Err(database_not_found(&session.database));
        }
        session.last_used = now;
        Ok(session)
    }
}

/// `labels.env:prod` conditions, separated by spaces or AND.
fn filters(filter: &str) -> Result<Vec<(String, String)>, Status> {
    let words = filter.split_whitespace().filter(|word| !word.eq_ignore_ascii_case("and"));
    let condition = |word: &str| {
        let (name, value) = word.strip_prefix("labels.")?.split_once(':')?;
        Some((name.to_owned(), value.to_owned()))
    };
    words.map(|word| condition(word).ok_or_else(|| invalid(format!("sim: unsupported filter {word:?}")))).collect()
}
