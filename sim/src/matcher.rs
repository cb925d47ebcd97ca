//! Which calls a script takes, and the list of scripts in place.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::HeaderMap;
use prost::Message;

use crate::lock;
use crate::script::Script;

/// What a matcher sees of a call.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// `:path`.
    pub path: &'a str,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// Number of the connection, from 0.
    pub connection: u64,
    /// HTTP/2 stream id.
    pub stream: u32,
}

type HeadTest = Arc<dyn Fn(&Head<'_>) -> bool + Send + Sync>;
type MessageTest = Arc<dyn Fn(&Bytes) -> bool + Send + Sync>;

/// Which calls a script takes. Made from a path (`/google.spanner.v1.Spanner/Commit`) or a method's name (`Commit`).
#[derive(Clone, Default)]
pub struct Matcher {
    name: Option<String>,
    head: Vec<HeadTest>,
    message: Option<MessageTest>,
}

impl Matcher {
    /// Every call.
    pub fn any() -> Self {
        Matcher::default()
    }

    /// Calls of one method: a full path, or the last part of one.
    pub fn method(name: &str) -> Self {
        Matcher { name: Some(name.to_owned()), ..Matcher::default() }
    }

    /// Only calls on this connection (from 0 in the order of accepting).
    #[must_use]
    pub fn connection(self, number: u64) -> Self {
        self.when(move |head| head.connection == number)
    }

    /// Only calls that carry this header with this value.
    #[must_use]
    pub fn header(self, name: &'static str, value: &str) -> Self {
        let value = value.to_owned();
        self.when(move |head| head.headers.get_all(name).iter().any(|v| v.as_bytes() == value.as_bytes()))
    }

    /// Only calls whose head passes the test.
    #[must_use]
    pub fn when(mut self, test: impl Fn(&Head<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.head.push(Arc::new(test));
        self
    }

    /// Only calls whose (decompressed) request message passes the test; it is asked after the request has been read.
    #[must_use]
    pub fn message(mut self, test: impl Fn(&Bytes) -> bool + Send + Sync + 'static) -> Self {
        self.message = Some(Arc::new(test));
        self
    }

    /// Only calls whose request decodes as `M` and passes the test.
    #[must_use]
    pub fn request<M: Message + Default>(self, test: impl Fn(&M) -> bool + Send + Sync + 'static) -> Self {
        self.message(move |bytes| M::decode(bytes.clone()).is_ok_and(|m| test(&m)))
    }

    fn takes_head(&self, head: &Head<'_>) -> bool {
        let named = match &self.name {
            None => true,
            Some(name) if name.starts_with('/') => head.path == name,
            Some(name) => head.path.rsplit('/').next() == Some(name.as_str()),
        };
        named && self.head.iter().all(|test| test(head))
    }
}

impl From<&str> for Matcher {
    fn from(name: &str) -> Self {
        Matcher::method(name)
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Matcher");
        out.field("method", &self.name).field("head_tests", &self.head.len());
        out.field("message_test", &self.message.is_some()).finish()
    }
}

/// A script in place; dropping the handle leaves it there.
#[derive(Clone, Debug)]
pub struct ScriptHandle(Arc<Installed>);

impl ScriptHandle {
    /// How many calls the script has taken.
    pub fn hits(&self) -> usize {
        self.0.hits.load(Ordering::Relaxed)
    }

    /// Takes the script away; calls that it has taken go on.
    pub fn remove(&self) {
        lock(&self.0.left).removed = true;
    }
}

#[derive(Debug)]
struct Installed {
    matcher: Matcher,
    script: Arc<Script>,
    hits: AtomicUsize,
    left: Mutex<Left>,
}

#[derive(Debug)]
struct Left {
    skip: usize,
    times: Option<usize>,
    removed: bool,
}

impl Left {
    fn is_spent(&self) -> bool {
        self.removed || self.times == Some(0)
    }

    fn take(&mut self) -> bool {
        if self.is_spent() {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if let Some(times) = &mut self.times {
            *times -= 1;
        }
        true
    }
}

/// All scripts in place; the first that matches takes a call.
#[derive(Default)]
pub(crate) struct Scripts {
    count: AtomicUsize,
    installed: Mutex<Vec<Arc<Installed>>>,
}

impl Scripts {
    pub(crate) fn add(&self, matcher: Matcher, script: Script) -> ScriptHandle {
        let left = Left { skip: script.skip, times: script.times, removed: false };
        let installed = Arc::new(Installed { matcher, script: Arc::new(script), hits: AtomicUsize::new(0), left: Mutex::new(left) });
        let mut all = lock(&self.installed);
        all.retain(|i| !lock(&i.left).is_spent());
        all.push(installed.clone());
        self.count.store(all.len(), Ordering::Release);
        ScriptHandle(installed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// The script that takes a call. Asked twice: with `None` before the message is read, then with it; each matcher
    /// answers in one of the two.
    pub(crate) fn take(&self, head: &Head<'_>, message: Option<&Bytes>) -> Option<Arc<Script>> {
        let all = lock(&self.installed);
        let taken = all.iter().find(|i| {
            let now = match (&i.matcher.message, message) {
                (None, None) => true,
                (Some(test), Some(message)) => test(message),
                _ => false,
            };
            now && i.matcher.takes_head(head) && lock(&i.left).take()
        })?;
        taken.hits.fetch_add(1, Ordering::Relaxed);
        Some(taken.script.clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn takes(scripts: &Scripts, path: &str) -> Option<usize> {
        let head = Head { path, headers: &HeaderMap::new(), connection: 1, stream: 1 };
        scripts.take(&head, None).map(|s| s.steps.len())
    }

    #[test]
    fn the_first_script_that_matches_takes_the_call_until_it_is_spent() {
        let scripts = Scripts::default();
        scripts.add("Commit".into(), Script::new().hang().times(2).skip(1));
        let every = scripts.add(Matcher::any(), Script::new().forever());
        let taken: Vec<_> = (0..4).map(|_| takes(&scripts, "/google.spanner.v1.Spanner/Commit")).collect();
        assert_eq!(taken, [Some(0), Some(1), Some(1), Some(0)]);
        every.remove();
        assert_eq!(takes(&scripts, "/x/Commit"), None);
        assert_eq!(every.hits(), 2);
    }

    #[test]
    fn a_matcher_of_messages_is_asked_only_with_a_message() {
        let scripts = Scripts::default();
        scripts.add(Matcher::method("/a/B").message(|m| m == "x"), Script::new());
        let headers = HeaderMap::new();
        let head = Head { path: "/a/B", headers: &headers, connection: 1, stream: 1 };
        assert!(scripts.take(&head, None).is_none());
        assert!(scripts.take(&head, Some(&Bytes::from_static(b"y"))).is_none());
        assert!(scripts.take(&head, Some(&Bytes::from_static(b"x"))).is_some());
    }
}
