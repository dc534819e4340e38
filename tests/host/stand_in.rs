//! An operator that a test controls: it keeps every heartbeat, and offers restarts in its answers until their outcome is told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// How long anything may take that an agent does by itself: a machine may be busy, and may boot meanwhile.
const PATIENCE: Duration = Duration::from_secs(150);

/// A restart that is offered.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) id: String,
    pub(crate) target: String,
    /// By the clock of this operator.
    pub(crate) not_after: Timestamp,
}

/// What the agent told about a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) target: String,
    pub(crate) succeeded: bool,
    pub(crate) message: String,
}

#[derive(Default)]
struct Desk {
    offers: Vec<Offer>,
    /// How many answers had the current offers.
    answers: u32,
    told: BTreeMap<String, Told>,
    /// An outcome that was told twice with other words.
    contradictions: Vec<String>,
    beats: Vec<Value>,
    ahead: SignedDuration,
}

/// A running operator; its thread ends with the test program.
pub(crate) struct StandIn {
    pub(crate) port: u16,
    desk: Arc<Mutex<Desk>>,
}

impl StandIn {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let desk = Arc::<Mutex<Desk>>::default();
        let shared = Arc::clone(&desk);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let desk = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &desk));
            }
        });
        Self { port, desk }
    }

    /// From now on the clock of this operator is ahead of that of the machines by this.
    pub(crate) fn set_ahead(&self, by: SignedDuration) {
        self.desk.lock().ahead = by;
    }

    /// The clock of this operator.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now() + self.desk.lock().ahead
    }

    /// Offers a restart that may begin within `within` from now; less than zero: that could have begun so long ago.
    pub(crate) fn offer(&self, id: &str, target: &str, within: SignedDuration) -> Offer {
        let offer = Offer { id: id.to_owned(), target: target.to_owned(), not_after: self.now() + within };
        let mut desk = self.desk.lock();
        desk.told.remove(id);
        desk.offers.push(offer.clone());
        desk.answers = 0;
        offer
    }

    /// Offers a restart, and waits for its outcome.
    #[track_caller]
    pub(crate) fn restart(&self, id: &str, target: &str) -> Told {
        self.offer(id, target, SignedDuration::from_mins(10));
        self.outcome(id)
    }

    /// Waits until an answer had all offers.
    #[track_caller]
    pub(crate) fn delivered(&self) {
        self.until("an answer with the offers", |desk| (desk.answers > 0).then_some(()));
    }

    /// Waits for the outcome of a restart.
    #[track_caller]
    pub(crate) fn outcome(&self, id: &str) -> Told {
        self.until(id, |desk| desk.told.get(id).cloned())
    }

    /// The outcomes that contradict an earlier one of the same id.
    pub(crate) fn contradictions(&self) -> Vec<String> {
        self.desk.lock().contradictions.clone()
    }

    /// Waits for a heartbeat that comes from now on.
    #[track_caller]
    pub(crate) fn beat(&self) -> Value {
        let seen = self.desk.lock().beats.len();
        self.until("a heartbeat", |desk| desk.beats.get(seen).cloned())
    }

    #[track_caller]
    fn until<T>(&self, what: &str, mut look: impl FnMut(&Desk) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            let desk = self.desk.lock();
            if let Some(found) = look(&desk) {
                return found;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "not within {PATIENCE:?}: {what}; the last heartbeat: {}",
                desk.beats.last().unwrap_or(&Value::Null)
            );
            drop(desk);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Desk {
    /// Takes a heartbeat, and returns the body of the answer.
    fn take(&mut self, beat: Value) -> Value {
        let one = beat.get("restart").into_iter();
        for report in one.chain(beat.get("restarts").and_then(Value::as_array).into_iter().flatten()) {
            let text = |name: &str| report[name].as_str().unwrap_or_default().to_owned();
            let told =
                Told { target: text("target"), succeeded: text("result") == "Succeeded", message: text("message") };
            self.offers.retain(|offer| offer.id != text("id"));
            let before = self.told.entry(text("id")).or_insert_with(|| told.clone());
            if *before != told {
                self.contradictions.push(format!("{}: {before:?}, and then {told:?}", text("id")));
            }
        }
        self.beats.push(beat);
        self.answers += 1;
        let actions: Vec<Value> = self
            .offers
            .iter()
            .map(|Offer { id, target, not_after }| {
                json!({"id": id, "type": "Restart", "target": target, "notAfter": not_after})
            })
            .collect();
        json!({"status": "ok", "state": "Online", "next_heartbeat_seconds": 1, "actions": actions})
    }
}

fn serve(stream: &TcpStream, desk: &Mutex<Desk>) {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    while let Some(body) = read_request(&mut reader) {
        let Ok(beat) = serde_json::from_slice(&body) else { return };
        let (answer, date) = {
            let mut desk = desk.lock();
            (desk.take(beat).to_string(), Timestamp::now() + desk.ahead)
        };
        let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT");
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: {date}\r\nContent-Length: {}\r\n\r\n{answer}",
            answer.len()
        );
        if (&mut &*stream).write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// The body of the next request; `None` at the end of the connection.
fn read_request(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}
